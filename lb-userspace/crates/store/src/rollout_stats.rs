//! What a service's rollouts came to, counted for good: kept in the ledger, so that neither a
//! pruned history nor another agent sets it back.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::journal::{Outcome, RolloutKind};
use crate::rollout::Phase;

/// Counts over all rollouts of a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RolloutStats {
    /// By kind, by outcome, in the journal's names.
    pub rollouts: BTreeMap<String, BTreeMap<String, u64>>,
    /// From the request to the store of the steering word, of those that stored it.
    pub steered: Durations,
    /// By phase: hooks that succeeded, and hooks that did not.
    pub hooks: BTreeMap<String, HookCounts>,
    /// The rollout that ended last.
    pub last: Option<LastRollout>,
    /// What became of the windows of its generations.
    pub windows: WindowCounts,
    /// Incidents that were kept.
    pub incidents: u64,
}

/// What became of windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WindowCounts {
    /// Nothing to compare them with, or too little in them.
    pub unscored: u64,
    /// A score below the threshold.
    pub dropped: u64,
    /// A score above it, and not looked at: the same anomaly, or too soon after the last.
    pub held: u64,
    /// Looked at closely.
    pub captured: u64,
    /// How long reading and scoring took, in microseconds.
    pub took_us: u64,
}

impl WindowCounts {
    /// Adds those of a second.
    pub fn add(&mut self, more: Self) {
        self.unscored += more.unscored;
        self.dropped += more.dropped;
        self.held += more.held;
        self.captured += more.captured;
        self.took_us += more.took_us;
    }

    /// Each by its name.
    pub const fn by_name(&self) -> [(&'static str, u64); 4] {
        [
            ("unscored", self.unscored),
            ("dropped", self.dropped),
            ("held", self.held),
            ("captured", self.captured),
        ]
    }
}

/// How the hooks of a phase ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookCounts {
    /// With exit code 0, in time.
    pub succeeded: u64,
    /// Otherwise.
    pub failed: u64,
}

/// The rollout that ended last.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastRollout {
    /// Whether it did what it was to do.
    pub done: bool,
    /// From the request to its end, the drain included.
    pub took: Duration,
    /// When it ended, in milliseconds since 1970.
    pub ended_ms: i64,
}

/// Durations in buckets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Durations {
    /// By the bucket's greatest duration in microseconds: how many, those of smaller buckets not
    /// included. A release with other buckets reads these too.
    buckets: BTreeMap<u64, u64>,
    /// All of them together, in microseconds.
    sum_us: u64,
    /// By the same bound, the last one in the bucket whose trace is recorded.
    #[serde(default)]
    traced: BTreeMap<u64, TracedDuration>,
}

/// A duration of something that has a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracedDuration {
    /// The trace: 32 hexadecimal digits.
    pub trace: String,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// When it was counted, in milliseconds since 1970.
    pub at_ms: i64,
}

/// The greatest durations of the buckets, in microseconds; longer ones are in one more.
const BOUNDS_US: [u64; 15] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

impl Durations {
    /// Counts one.
    pub fn add(&mut self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bound = BOUNDS_US.into_iter().find(|&bound| us <= bound);
        *self.buckets.entry(bound.unwrap_or(u64::MAX)).or_default() += 1;
        self.sum_us = self.sum_us.saturating_add(us);
    }

    /// Counts one that has a trace.
    fn add_traced(&mut self, duration: Duration, trace: String, at_ms: i64) {
        self.add(duration);
        let took_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bound = BOUNDS_US.into_iter().find(|&bound| took_us <= bound);
        let traced = TracedDuration {
            trace,
            took_us,
            at_ms,
        };
        self.traced.insert(bound.unwrap_or(u64::MAX), traced);
    }

    /// By the place of their bucket in [`Durations::buckets`], the last ones that have a trace.
    pub fn traced(&self) -> impl Iterator<Item = (usize, &TracedDuration)> {
        self.traced.values().map(|traced| {
            let longer = |bound: &u64| traced.took_us <= *bound;
            let place = BOUNDS_US.iter().position(longer);
            (place.unwrap_or(BOUNDS_US.len()), traced)
        })
    }

    /// All of them together.
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum_us)
    }

    /// Each bucket's greatest duration in seconds, the last one without limit, and how many fell
    /// into it and not into a smaller one.
    pub fn buckets(&self) -> Vec<(f64, u64)> {
        let mut from = 0;
        let mut buckets = Vec::with_capacity(BOUNDS_US.len() + 1);
        for bound in BOUNDS_US {
            let count = self.buckets.range(from..=bound).map(|(_, count)| count);
            buckets.push((Duration::from_micros(bound).as_secs_f64(), count.sum()));
            from = bound + 1;
        }
        let longer = self.buckets.range(from..).map(|(_, count)| count);
        buckets.push((f64::INFINITY, longer.sum()));
        buckets
    }
}

impl RolloutStats {
    /// Counts a rollout that is over; `steered` is how long its store of the word took, if there
    /// was one, and its trace, if that is recorded.
    pub fn rollout(
        &mut self,
        kind: RolloutKind,
        outcome: Outcome,
        last: LastRollout,
        steered: Option<(Duration, Option<String>)>,
    ) {
        let kind = self.rollouts.entry(kind.name().to_owned()).or_default();
        *kind.entry(outcome.name().to_owned()).or_default() += 1;
        match steered {
            Some((took, Some(trace))) => self.steered.add_traced(took, trace, last.ended_ms),
            Some((took, None)) => self.steered.add(took),
            None => {}
        }
        self.last = Some(last);
    }

    /// Counts windows that were screened.
    pub fn screened(&mut self, windows: WindowCounts) {
        self.windows.add(windows);
    }

    /// Counts an incident that was kept.
    pub const fn incident(&mut self) {
        self.incidents += 1;
    }

    /// Counts a hook that ended.
    pub fn hook(&mut self, phase: Phase, succeeded: bool) {
        let counts = self.hooks.entry(phase.name().to_owned()).or_default();
        if succeeded {
            counts.succeeded += 1;
        } else {
            counts.failed += 1;
        }
    }

    /// How many rollouts of this kind ended so.
    pub fn rollouts(&self, kind: RolloutKind, outcome: Outcome) -> u64 {
        let by_outcome = self.rollouts.get(kind.name());
        by_outcome
            .and_then(|outcomes| outcomes.get(outcome.name()))
            .copied()
            .unwrap_or_default()
    }

    /// How the hooks of this phase ended.
    pub fn hooks(&self, phase: Phase) -> HookCounts {
        self.hooks.get(phase.name()).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_one_bucket() {
        let mut durations = Durations::default();
        for us in [0, 1_000, 1_001, 60_000_001] {
            durations.add(Duration::from_micros(us));
        }
        let buckets = durations.buckets();
        assert_eq!(buckets[0], (0.001, 2));
        assert_eq!(buckets[1], (0.0025, 1));
        assert_eq!(*buckets.last().unwrap(), (f64::INFINITY, 1));
        assert_eq!(buckets.iter().map(|(_, count)| count).sum::<u64>(), 4);
        assert_eq!(durations.sum(), Duration::from_micros(60_002_002));
    }

    #[test]
    fn buckets_of_another_release_are_counted_too() {
        let text = r#"{"buckets":{"700":1,"3000":2,"90000000":4},"sum_us":1}"#;
        let durations: Durations = serde_json::from_str(text).unwrap();
        let buckets = durations.buckets();
        assert_eq!((buckets[0].1, buckets[2].1), (1, 2));
        assert_eq!(buckets.last().unwrap().1, 4);
    }

    #[test]
    fn a_ledger_without_counts_is_read_and_one_with_counts_comes_back() {
        let mut rollout_stats: RolloutStats = serde_json::from_str("{}").unwrap();
        assert_eq!(rollout_stats, RolloutStats::default());
        let last = LastRollout {
            done: true,
            took: Duration::from_millis(1500),
            ended_ms: 7,
        };
        rollout_stats.rollout(
            RolloutKind::Promote,
            Outcome::Done,
            last,
            Some((Duration::from_millis(2), Some("ab".repeat(16)))),
        );
        rollout_stats.hook(Phase::Swap, false);
        let text = serde_json::to_string(&rollout_stats).unwrap();
        let read: RolloutStats = serde_json::from_str(&text).unwrap();
        assert_eq!(read, rollout_stats);
        assert_eq!(read.rollouts(RolloutKind::Promote, Outcome::Done), 1);
        assert_eq!(read.hooks(Phase::Swap).failed, 1);
        let traced: Vec<_> = read.steered.traced().collect();
        assert!(matches!(traced.as_slice(), [(1, one)] if one.took_us == 2_000));
    }
}
