//! Handles that can be held: an agent that hands its services over writes nothing behind the back
//! of its successor, and a successor migrates nothing before the other one has left.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{database::Database, worker::Work};

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

    /// Keeps nothing any more; what was kept, in order.
    pub(super) fn opened(&self) -> Vec<Work> {
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
