//! The parking listeners a service has.

use std::net::SocketAddr;

use crate::{
    generation::keeper::Parked,
    sys::{listener::GroupKey, listing::Listing},
};

/// One parking listener a group, in the groups' order. The keeper may hold more: those that were
/// replaced and are not closed yet.
#[derive(Debug, Default)]
pub(super) struct Parks(Vec<Parked>);

impl Parks {
    pub(super) const fn new(open: Vec<Parked>) -> Self {
        Self(open)
    }

    pub(super) fn all(&self) -> &[Parked] {
        &self.0
    }

    /// What keeps them apart from other groups.
    pub(super) fn group_keys(&self) -> Vec<GroupKey> {
        self.0.iter().map(|parked| parked.group_key).collect()
    }

    /// That of the group at this address.
    pub(super) fn at(&self, address: SocketAddr) -> Option<&Parked> {
        let mut open = self.0.iter();
        open.find(|parked| parked.group_key.address == address)
    }

    /// Whether it is one of them.
    pub(super) fn has(&self, cookie: u64) -> bool {
        self.0.iter().any(|parked| parked.cookie == cookie)
    }

    /// How many clients wait in them, by the kernel's list.
    pub(super) fn queued(&self, listing: &Listing) -> u64 {
        let waiting = self
            .0
            .iter()
            .filter_map(|parked| listing.get(parked.cookie));
        waiting.map(|waiting| u64::from(waiting.queue)).sum()
    }

    /// Another one for a group.
    pub(super) fn replace(&mut self, index: usize, fresh: Parked) {
        if let Some(parked) = self.0.get_mut(index) {
            *parked = fresh;
        }
    }
}
