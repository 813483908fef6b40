//! Drain: from "gets no new connection" to "has none left".
//!
//! In order, each step as short as the kernel's own counts allow: the accept queues empty, or are
//! moved; HTTP/1 clients are asked to leave; the server's signal; the deadline, with what is done
//! about the leftovers. Several generations drain at once, each by a task of its own.

mod cut;
mod leftovers;
mod progress;
mod queue;

pub(super) use leftovers::{FINISH, Signalled};
pub(super) use progress::{Drain, DrainStep};

use std::sync::Arc;

use super::{
    Context,
    datagrams::Datagrams,
    ending::{Endings, Teller},
    polite::PoliteDrain,
    shared::SharedState,
};

/// What a generation still has that is to end, and how that ends.
#[derive(Debug)]
pub(super) struct Leaving {
    context: Arc<Context>,
    state: SharedState,
    polite: PoliteDrain,
    endings: Endings,
    datagrams: Datagrams,
    teller: Teller,
}

context_of!(Leaving);
