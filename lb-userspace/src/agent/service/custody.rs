//! A service that nobody acts on for a while.

use std::sync::Arc;

use tokio::sync::OwnedMutexGuard;

use super::{Service, books::Books};

/// The books of a service, locked. Whatever any task of this process would do to the service
/// waits until this is dropped.
#[derive(Debug)]
pub(in crate::agent) struct Held(OwnedMutexGuard<Books>);

impl Held {
    /// Locks the books until this process ends.
    pub(in crate::agent) fn for_ever(self) {
        Box::leak(Box::new(self.0));
    }
}

impl Service {
    /// Has whoever looks after the service come to an end.
    pub(in crate::agent) fn halt(&self) {
        self.halted.send_replace(true);
    }

    /// Lets somebody look after the service again.
    pub(in crate::agent) fn resume(&self) {
        self.halted.send_replace(false);
    }

    /// Returns once the service is halted.
    pub(super) async fn is_halted(&self) {
        let mut halted = self.halted.subscribe();
        // It fails only when the sender is gone, and that one is here.
        let _halted = halted.wait_for(|halted| *halted).await;
    }

    /// Locks the books and writes them down.
    ///
    /// # Errors
    ///
    /// When they cannot be written: nobody else would know what they say.
    pub(in crate::agent) async fn hold(&self) -> Result<Held, String> {
        let mut books = Arc::clone(&self.books).lock_owned().await;
        self.settle(&mut books);
        match &books.ledger_error {
            Some(error) => Err(error.clone()),
            None => Ok(Held(books)),
        }
    }
}
