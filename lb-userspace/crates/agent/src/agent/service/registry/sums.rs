//! What stays of generations and rollouts that are over.

use crate::{
    datapath::{ConnectionCounts, Latencies},
    rollout::habit::Habits,
    store::{Ledger, RolloutStats},
};

/// Sums over all that a service has had.
#[derive(Debug, Default)]
pub(in crate::agent::service) struct Sums {
    /// Connections of generations that are not remembered any more.
    retired: ConnectionCounts,
    /// How long clients waited whose generations are not in the kernel's tables any more.
    past: Latencies,
    /// What its rollouts came to.
    rollout_stats: RolloutStats,
    /// What its programs were seen to do on their signals.
    habits: Habits,
}

impl Sums {
    /// Those that an earlier agent wrote down.
    pub(super) fn restored(ledger: &mut Ledger) -> Self {
        Self {
            retired: ledger.retired,
            past: std::mem::take(&mut ledger.past),
            rollout_stats: std::mem::take(&mut ledger.rollout_stats),
            habits: std::mem::take(&mut ledger.habits),
        }
    }

    /// Connections of generations that are not remembered any more.
    pub(in crate::agent::service) const fn retired(&self) -> ConnectionCounts {
        self.retired
    }

    /// Keeps counts whose generation is forgotten.
    pub(in crate::agent::service) fn retire(&mut self, counts: ConnectionCounts) {
        self.retired = ConnectionCounts {
            live: 0,
            ..self.retired.plus(counts)
        };
    }

    /// How long clients waited whose generations are not in the kernel's tables any more.
    pub(in crate::agent::service) const fn past(&self) -> &Latencies {
        &self.past
    }

    /// Keeps how long the clients of such a generation waited.
    pub(in crate::agent::service) fn keep_latencies(&mut self, latencies: &Latencies) {
        self.past.add(latencies);
    }

    /// What its rollouts came to.
    pub(in crate::agent::service) const fn rollout_stats(&self) -> &RolloutStats {
        &self.rollout_stats
    }

    /// The same, to count what is over.
    pub(in crate::agent::service) const fn rollout_stats_mut(&mut self) -> &mut RolloutStats {
        &mut self.rollout_stats
    }

    /// What its programs were seen to do on their signals.
    pub(in crate::agent::service) const fn habits(&self) -> &Habits {
        &self.habits
    }

    /// The same, to note what was seen.
    pub(in crate::agent::service) const fn habits_mut(&mut self) -> &mut Habits {
        &mut self.habits
    }
}
