//! The parking listeners a service has.

use std::net::SocketAddr;

use crate::{generation::keeper::Parked, sys::listener::Twin};

/// One parking listener a group, in the groups' order, and those that are to be closed.
#[derive(Debug, Default)]
pub(super) struct Parks {
    open: Vec<Parked>,
    /// Replaced; their keeper has them open for as long as it has not answered. Clients wait there.
    replaced: Vec<u64>,
}

impl Parks {
    pub(super) fn new(open: Vec<Parked>) -> Self {
        Self {
            open,
            replaced: Vec::new(),
        }
    }

    pub(super) fn all(&self) -> &[Parked] {
        &self.open
    }

    /// What keeps them apart from other groups.
    pub(super) fn twins(&self) -> Vec<Twin> {
        self.open.iter().map(|parked| parked.twin).collect()
    }

    /// That of the group at this address.
    pub(super) fn at(&self, address: SocketAddr) -> Option<&Parked> {
        let mut open = self.open.iter();
        open.find(|parked| parked.twin.address == address)
    }

    /// Whether it is one of them.
    pub(super) fn has(&self, cookie: u64) -> bool {
        self.open.iter().any(|parked| parked.cookie == cookie)
    }

    /// That of one group more.
    pub(super) fn add(&mut self, parked: Parked) {
        self.open.push(parked);
    }

    /// Another one for a group.
    pub(super) fn replace(&mut self, index: usize, fresh: Parked) {
        if let Some(parked) = self.open.get_mut(index) {
            self.replaced.push(parked.cookie);
            *parked = fresh;
        }
    }

    /// No group has one any more.
    pub(super) fn give_up(&mut self) {
        let open = self.open.drain(..);
        self.replaced.extend(open.map(|parked| parked.cookie));
    }

    /// Those that are to be closed.
    pub(super) fn replaced(&self) -> Vec<u64> {
        self.replaced.clone()
    }

    /// One of them is closed.
    pub(super) fn closed(&mut self, cookie: u64) {
        self.replaced.retain(|&replaced| replaced != cookie);
    }
}
