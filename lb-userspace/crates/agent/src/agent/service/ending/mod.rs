//! How a generation is told to end: who serves, by which signal, when, and what came of it.

mod judge;
mod seen;
mod tell;

pub(super) use judge::{Endings, Judged, place, signal_of, signal_wait};
pub(super) use seen::cut_warnings;

use std::sync::Arc;

use super::{Context, shared::SharedState};

/// Tells generations to end, and looks what that did.
#[derive(Debug)]
pub(super) struct Teller {
    context: Arc<Context>,
    state: SharedState,
}

context_of!(Teller);

impl Teller {
    /// Those of a service.
    pub(super) fn new(context: &Arc<Context>, state: &SharedState) -> Self {
        Self {
            context: Arc::clone(context),
            state: state.clone(),
        }
    }
}
