//! A service that nobody acts on for a while.

use tokio::sync::OwnedMutexGuard;

use super::{Service, books::Books, polite};
use crate::{rollout::Phase, takeover::UpgradeError};

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

impl Service {
    /// Has whoever looks after the service come to an end.
    pub(in crate::agent) fn halt(&self) {
        self.halted.send_replace(true);
    }

    /// Lets somebody look after the service again, and its rollouts go on.
    pub(in crate::agent) fn resume(&self) {
        self.journal.go_on();
        self.halted.send_replace(false);
    }

    /// Returns once the service is halted.
    pub(super) async fn is_halted(&self) {
        let mut halted = self.halted.subscribe();
        // It fails only when the sender is gone, and that one is here.
        let _halted = halted.wait_for(|halted| *halted).await;
    }

    /// Locks the books and writes them down; what is under way in the journal is written too.
    ///
    /// # Errors
    ///
    /// [`UpgradeError::Busy`] as [`Service::refuse_busy`]; [`UpgradeError::NotHeld`] when
    /// something cannot be written: nobody else would know of it.
    pub(in crate::agent) async fn hold(&self) -> Result<Held, UpgradeError> {
        let parking = self.parking.hold().await;
        let polite = self.polite.turn().await;
        let guard = self.guard.hold().await;
        let books = self.state.hold().await;
        self.refuse_busy_in(&books)?;
        if let Some(error) = self.state.record(&books).await {
            return Err(UpgradeError::NotHeld(error));
        }
        let written = self.journal.hold().await;
        written.map_err(|error| UpgradeError::NotHeld(error.to_string()))?;
        Ok(Held {
            books,
            polite,
            guard,
            parking,
        })
    }

    /// A successor goes on with a rollout in its bake or drain. In any other phase hooks run, or
    /// the traffic is about to move.
    ///
    /// # Errors
    ///
    /// [`UpgradeError::Busy`] for a rollout in such a phase.
    pub(in crate::agent) async fn refuse_busy(&self) -> Result<(), UpgradeError> {
        self.refuse_busy_in(&*self.state.lock().await)
    }

    fn refuse_busy_in(&self, books: &Books) -> Result<(), UpgradeError> {
        match &books.rollout {
            Some(rollout) if rollout.phase != Phase::Bake => Err(UpgradeError::Busy(format!(
                "{} on service {} ({})",
                rollout.name(),
                self.name(),
                rollout.phase.name()
            ))),
            _ => Ok(()),
        }
    }
}
