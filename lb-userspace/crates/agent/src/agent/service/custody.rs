//! A service that nobody acts on for a while.

use tokio::sync::OwnedMutexGuard;

use super::{books::Books, polite};

/// The books of a service, locked, and its handle of the journal, held. Whatever any task of this
/// process would do to the service, or write of it, waits until this is dropped and the service
/// resumed.
#[derive(Debug)]
pub(in crate::agent) struct Held {
    books: OwnedMutexGuard<Books>,
    /// Nobody asks connections to leave, or ends them.
    polite: polite::Turn,
    /// Nobody attaches programs.
    guard: OwnedMutexGuard<()>,
    /// Nobody opens or closes parking listeners.
    parking: OwnedMutexGuard<()>,
}

impl Held {
    pub(super) const fn new(
        books: OwnedMutexGuard<Books>,
        polite: polite::Turn,
        guard: OwnedMutexGuard<()>,
        parking: OwnedMutexGuard<()>,
    ) -> Self {
        Self {
            books,
            polite,
            guard,
            parking,
        }
    }

    /// Locks the books until this process ends.
    pub(in crate::agent) fn for_ever(self) {
        Box::leak(Box::new((
            self.books,
            self.polite,
            self.guard,
            self.parking,
        )));
    }
}
