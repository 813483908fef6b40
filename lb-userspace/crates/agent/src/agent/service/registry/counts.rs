//! A generation's counts that are not in the kernel, and whether those in the kernel are true.

use crate::{datapath::ConnectionCounts, store::Remembered};

/// What is counted of a generation beside the kernel.
#[derive(Debug, Default)]
pub(in crate::agent::service) struct Counts {
    /// Of earlier lives, and its own once its seat is another's.
    counted: ConnectionCounts,
    /// Whether another generation has its seat by now.
    unseated: bool,
    /// Its last connection has closed, and the program that counts them is given up.
    given_up: bool,
    /// Connections that were counted and not found when they were last compared.
    missing: u64,
    /// Those whose end was not counted by the kernel.
    unseen_ends: u64,
    /// How many were open when they were last compared.
    compared_at: u64,
}

impl Counts {
    /// Those of a generation that inherits `counted` from an earlier life.
    pub(super) fn inherited(counted: ConnectionCounts) -> Self {
        Self {
            counted,
            ..Self::default()
        }
    }

    /// Those that an earlier agent wrote down; no seat outlives the host's start.
    pub(super) fn restored(remembered: &Remembered, same_boot: bool) -> Self {
        Self {
            unseated: remembered.unseated || !same_boot,
            unseen_ends: remembered.unseen_ends,
            ..Self::inherited(remembered.counted)
        }
    }

    /// Those of earlier lives, and its own once its seat is another's.
    pub(in crate::agent::service) const fn counted(&self) -> ConnectionCounts {
        self.counted
    }

    /// Whether another generation has its seat by now.
    pub(in crate::agent::service) const fn is_unseated(&self) -> bool {
        self.unseated
    }

    /// Those whose end was not counted by the kernel.
    pub(in crate::agent::service) const fn unseen_ends(&self) -> u64 {
        self.unseen_ends
    }

    /// Its seat is given on; `all` is what was counted of it.
    pub(in crate::agent::service) fn lose_seat(&mut self, all: ConnectionCounts) {
        self.counted = all;
        self.unseated = true;
    }

    /// So many were open before the kernel counted.
    pub(super) fn note_opened(&mut self, earlier: u64) {
        self.counted.opened += earlier;
    }

    /// So many of those have closed.
    pub(super) fn note_closed(&mut self, earlier: u64) {
        self.counted.closed += earlier;
    }

    /// Of `live` connections that the kernel counts so many are missing. Those that were so the last time too have
    /// ended: says how many.
    pub(in crate::agent::service) fn compare(&mut self, missing: u64, live: u64) -> u64 {
        let ended = self.missing.min(missing);
        self.missing = missing - ended;
        self.compared_at = live.saturating_sub(ended);
        self.counted.closed += ended;
        self.unseen_ends += ended;
        ended
    }

    /// Whether they are to be compared again, now that `live` are counted.
    pub(in crate::agent::service) const fn are_to_compare(&self, live: u64) -> bool {
        live > self.compared_at || self.missing > 0
    }

    /// Gives the program up that counts them, once `stop` did.
    pub(super) fn give_up(&mut self, stop: impl FnOnce() -> bool) {
        self.given_up = self.given_up || stop();
    }
}
