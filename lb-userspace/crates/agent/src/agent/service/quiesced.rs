//! A service that nobody acts on for a while.

use tokio::sync::OwnedMutexGuard;

use super::{polite, registry::Registry};

/// The registry of a service, locked, and its handle of the journal, held. Whatever any task of this
/// process would do to the service, or write of it, waits until this is dropped and the service
/// resumed.
#[derive(Debug)]
pub(in crate::agent) struct QuiescedService {
    registry: OwnedMutexGuard<Registry>,
    /// Nobody asks connections to leave, or ends them.
    polite: polite::Turn,
    /// Nobody attaches programs.
    guard: OwnedMutexGuard<()>,
    /// Nobody opens or closes parking listeners.
    parking: OwnedMutexGuard<()>,
}

impl QuiescedService {
    pub(super) const fn new(
        registry: OwnedMutexGuard<Registry>,
        polite: polite::Turn,
        guard: OwnedMutexGuard<()>,
        parking: OwnedMutexGuard<()>,
    ) -> Self {
        Self {
            registry,
            polite,
            guard,
            parking,
        }
    }

    /// Locks the registry until this process ends.
    pub(in crate::agent) fn for_ever(self) {
        Box::leak(Box::new((
            self.registry,
            self.polite,
            self.guard,
            self.parking,
        )));
    }
}
