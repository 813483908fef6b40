//! All listeners at one moment: one question to the kernel for all generations of all services.

use std::sync::Arc;

use crate::sys::{
    cgroup::Cgroup,
    listing::{LATELY, Listing},
    netns::Netns,
    sock_diag::Protocol,
};

/// Accept queues and dropped handshakes.
#[derive(Debug)]
pub(super) struct Listeners(Option<Arc<Listing>>);

impl Listeners {
    /// Those there are; none where the kernel does not say whose they are (before 5.7).
    pub(super) fn lately(netns: &Netns) -> Self {
        Self(Listing::recent(netns, Protocol::Tcp, LATELY).ok())
    }

    /// Connections in the accept queues of a generation, and handshakes it dropped so far.
    pub(super) fn of(&self, cgroup: &Cgroup) -> (u32, u64) {
        let Some(listing) = &self.0 else {
            return (0, 0);
        };
        let own = listing.made_in(cgroup).into_iter();
        own.fold((0, 0), |(queue, dropped), socket| {
            (queue + socket.queue, dropped + u64::from(socket.dropped))
        })
    }
}
