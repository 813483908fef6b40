//! Handles that can be held: an agent that hands its services over writes nothing behind the back
//! of its successor.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Journal, JournalError, Work, database::Database};

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
        self.fence.state().held = true;
        // The thread does everything in order.
        self.fenced().run(|_database| Ok(())).await
    }

    /// Goes on, with what was asked for meanwhile first.
    pub fn go_on(&self) {
        let parked = {
            let mut state = self.fence.state();
            state.held = false;
            std::mem::take(&mut state.parked)
        };
        for work in parked {
            self.later(work);
        }
    }

    /// Closes the file until somebody needs it again.
    ///
    /// # Errors
    ///
    /// When the disk does not answer.
    pub async fn close(&self) -> Result<(), JournalError> {
        self.run(|database| {
            database.close();
            Ok(())
        })
        .await
    }
}
