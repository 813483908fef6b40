//! What a soak did, in figures.

use std::{collections::BTreeMap, time::Duration};

use super::Step;
use crate::{footprint::Footprint, load::Outcome, report};

/// The figures.
#[derive(Debug, Default)]
pub struct Summary {
    /// How long it took.
    pub took: Duration,
    /// How often each step was done.
    pub done: BTreeMap<Step, usize>,
    /// Requests in all.
    pub requests: u64,
    /// Those that failed, all of them where the step allows it.
    pub failed: u64,
    /// Those that waited, likewise.
    pub slow: u64,
    /// The longest of them.
    pub longest: Duration,
    /// Rests, at which everything was counted.
    pub rests: usize,
    /// What the agent held at the first of them and at the last.
    pub held: Option<(Footprint, Footprint)>,
}

impl Summary {
    /// Steps in all.
    pub fn steps(&self) -> usize {
        self.done.values().sum()
    }

    pub(super) fn did(&mut self, step: Step) {
        *self.done.entry(step).or_default() += 1;
    }

    pub(super) fn load(&mut self, outcome: &Outcome) {
        self.requests += outcome.requests();
        self.failed += outcome.failed;
        self.slow += outcome.slow;
        self.longest = self.longest.max(outcome.max);
    }

    pub(super) fn rested(&mut self, holds: Footprint) {
        self.rests += 1;
        self.held = Some(
            self.held
                .map_or((holds, holds), |(first, _)| (first, holds)),
        );
    }

    /// Reports all of it.
    pub fn report(&self) {
        report::figure("soak: time", format!("{:.0} s", self.took.as_secs_f64()));
        report::figure("soak: steps", self.steps());
        for (step, times) in &self.done {
            report::figure(&format!("soak: {step:?}"), times);
        }
        report::figure("soak: requests", self.requests);
        report::figure("soak: of these failed, where it is allowed", self.failed);
        report::figure("soak: of these slow, where it is allowed", self.slow);
        report::figure("soak: longest request", format!("{:?}", self.longest));
        report::figure("soak: rests with everything counted", self.rests);
        if let Some((first, last)) = self.held {
            report::figure("soak: held at the first rest", first);
            report::figure("soak: held at the last rest", last);
        }
    }
}
