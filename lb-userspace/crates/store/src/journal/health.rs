//! What is known of the journal's state, for whoever asks without wanting to wait.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::error::{JournalError, Trouble};
use crate::clock;

/// How old what is known may be before a check tries again.
const FRESH: Duration = Duration::from_secs(5);

/// The same while it cannot be written: recovery is noticed sooner.
const FRESH_IN_TROUBLE: Duration = Duration::from_secs(1);

/// The last that was found out about writing.
#[derive(Debug, Default)]
pub(super) struct Health {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Why the last write failed, if it did.
    trouble: Option<Trouble>,
    /// When that was.
    tried: Option<Instant>,
    /// Whether somebody has waited in vain for what the thread still does.
    stuck: bool,
    /// Whether a check is under way.
    is_checked: bool,
}

impl Health {
    /// A write was tried.
    pub(super) fn tried<T>(&self, result: &Result<T, JournalError>) {
        let trouble = match result {
            Err(JournalError::Unusable { trouble, .. }) => Some(trouble.clone()),
            Ok(_)
            | Err(
                JournalError::UnknownRollout(_)
                | JournalError::UnknownIncident(_)
                | JournalError::Over(_),
            ) => None,
        };
        let mut known = self.known();
        match (&known.trouble, &trouble) {
            (None, Some(trouble)) => {
                tracing::error!(reason = %trouble, "failed to write the journal; new rollouts are refused");
            }
            (Some(_), None) => tracing::info!("the journal can be written again"),
            _ => {}
        }
        known.trouble = trouble;
        known.tried = Some(clock::now());
    }

    /// Somebody waited in vain.
    pub(super) fn stuck(&self) {
        self.known().stuck = true;
    }

    /// The thread has come back from what it did.
    pub(super) fn goes_on(&self) {
        self.known().stuck = false;
    }

    /// Whether asking now would be waiting in vain.
    pub(super) fn is_stuck(&self) -> bool {
        self.known().stuck
    }

    /// Why it cannot be written, as far as is known.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        let known = self.known();
        if known.stuck {
            return Some(Trouble::Slow);
        }
        known.trouble.clone()
    }

    /// Whether writing is to be tried: what is known is too old, and nobody else tries.
    pub(super) fn begins_check(&self) -> bool {
        let mut known = self.known();
        let limit = if known.trouble.is_some() {
            FRESH_IN_TROUBLE
        } else {
            FRESH
        };
        let age = |tried| clock::now().saturating_duration_since(tried);
        let is_fresh = known.tried.is_some_and(|tried| age(tried) < limit);
        !is_fresh && !std::mem::replace(&mut known.is_checked, true)
    }

    /// It was tried, or in vain.
    pub(super) fn ends_check(&self) {
        self.known().is_checked = false;
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
