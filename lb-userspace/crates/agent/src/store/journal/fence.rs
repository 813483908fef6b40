//! Handles that can be held: an agent that hands its services over writes nothing behind the back
//! of its successor, and a successor migrates nothing before the other one has left.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Drill, Journal, JournalError, Kind, Work, database::Database, schema::Schema};
use crate::config::Retention;

/// What a handle and its clones have in common.
#[derive(Default)]
pub(super) struct Fence(Mutex<State>);

#[derive(Default)]
struct State {
    held: bool,
    /// What was asked for meanwhile, in order.
    parked: Vec<Work>,
}

impl std::fmt::Debug for Fence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fence")
            .field("held", &self.is_held())
            .finish()
    }
}

impl Fence {
    /// Whether nothing is done for now.
    pub(super) fn is_held(&self) -> bool {
        self.state().held
    }

    /// Does `work`, or keeps it. On the journal's thread.
    pub(super) fn pass(&self, database: &mut Database, work: Work) {
        let mut state = self.state();
        if state.held {
            state.parked.push(work);
        } else {
            drop(state);
            work(database);
        }
    }

    /// Keeps what comes, from here on.
    pub(super) fn hold(&self) {
        self.state().held = true;
    }

    /// Does what was kept, in order, and keeps nothing any more. On the journal's thread: nothing comes meanwhile.
    pub(super) fn release(&self, database: &mut Database) {
        let parked = self.opened();
        for work in parked {
            work(database);
        }
    }

    fn opened(&self) -> Vec<Work> {
        let mut state = self.state();
        state.held = false;
        std::mem::take(&mut state.parked)
    }

    /// How much waits.
    #[cfg(test)]
    pub(super) fn parked(&self) -> usize {
        self.state().parked.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Journal {
    /// The journal at `path`, for the successor of an agent that may still take up again. If it has to be migrated, nothing is written
    /// until [`Journal::take_charge`]: who asks for it waits, and who reads is told what the file will be.
    ///
    /// # Errors
    ///
    /// When it has to be migrated, and cannot be.
    pub async fn beside_former(
        path: PathBuf,
        retention: Retention,
        drill: Option<Drill>,
    ) -> Result<Self, JournalError> {
        let journal = Self::start(path, Schema::OWN, retention, drill);
        journal.stand_beside().await?;
        journal.prune_later();
        Ok(journal)
    }

    pub(super) async fn stand_beside(&self) -> Result<(), JournalError> {
        let charge = Arc::clone(&self.charge);
        self.read(move |database| {
            if database.stand_beside()? {
                charge.hold();
            }
            Ok(())
        })
        .await
    }

    /// No former agent needs the file any more: migrates it if that has to be done, and does what was asked for
    /// meanwhile.
    ///
    /// # Errors
    ///
    /// When the migration failed: the file is as it was, and every write tries again.
    pub async fn take_charge(&self) -> Result<(), JournalError> {
        let charge = Arc::clone(&self.charge);
        self.read(move |database| {
            let migrated = database.take_charge();
            charge.release(database);
            migrated
        })
        .await
    }

    /// A handle of the same journal that can be held by itself, with its clones.
    #[must_use]
    pub fn fenced(&self) -> Self {
        Self {
            fence: Arc::default(),
            ..self.clone()
        }
    }

    /// Has nothing more done that is asked for through this handle or its clones: who asks waits,
    /// if need be for ever. What was asked for before is done when this returns.
    ///
    /// # Errors
    ///
    /// When the disk does not answer: what was asked for may still be done.
    pub async fn hold(&self) -> Result<(), JournalError> {
        self.fence.hold();
        // The thread does everything in order.
        self.fenced().read(|_database| Ok(())).await
    }

    /// Goes on, with what was asked for meanwhile first.
    pub fn go_on(&self) {
        for work in self.fence.opened() {
            // A write among them knows what else may hold it.
            self.later(Kind::Read, work);
        }
    }

    /// Closes the file until somebody needs it again.
    ///
    /// # Errors
    ///
    /// When the disk does not answer.
    pub async fn close(&self) -> Result<(), JournalError> {
        self.read(|database| {
            database.close();
            Ok(())
        })
        .await
    }
}
