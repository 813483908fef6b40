//! Which windows are looked at closely: few.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

/// The bounds of one service.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// The least score that is looked at closely.
    pub threshold: f64,
    /// The least time between two captures.
    pub pause: Duration,
    /// Captures in an hour at most.
    pub per_hour: u32,
}

/// Why a window with a high score is not looked at closely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// The same anomaly: the generation's score has not been low since it was looked at.
    Same,
    /// The last capture was a moment ago, or goes on.
    Pause,
    /// There were as many in this hour as may be.
    Hour,
}

/// Keeps the bounds of one service.
#[derive(Debug, Default)]
pub struct Gate {
    /// When captures began within the last hour.
    begun: VecDeque<Duration>,
    /// Generations whose anomaly is known.
    known: BTreeSet<u32>,
    /// When the last capture ended, or `None` while it goes on.
    ended: Option<Duration>,
    busy: bool,
}

const HOUR: Duration = Duration::from_hours(1);
/// An anomaly is over when the score is this part of the threshold.
const OVER: f64 = 0.5;

impl Gate {
    /// Whether a window of `generation` with a score of at least the threshold is looked at
    /// closely. Any other window is to be given to [`Gate::low`].
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn ask(&mut self, limits: &Limits, generation: u32, now: Duration) -> Result<(), Held> {
        if self.known.contains(&generation) {
            return Err(Held::Same);
        }
        let rests = |ended: Duration| now.saturating_sub(ended) < limits.pause;
        if self.busy || self.ended.is_some_and(rests) {
            return Err(Held::Pause);
        }
        self.begun.retain(|&begun| now.saturating_sub(begun) < HOUR);
        if self.begun.len() >= limits.per_hour as usize {
            return Err(Held::Hour);
        }
        self.begun.push_back(now);
        self.known.insert(generation);
        self.busy = true;
        Ok(())
    }

    /// A window of `generation` had a score below the threshold.
    pub fn low(&mut self, limits: &Limits, generation: u32, score: f64) {
        if score < limits.threshold * OVER {
            self.known.remove(&generation);
        }
    }

    /// The capture ended.
    pub fn done(&mut self, now: Duration) {
        self.busy = false;
        self.ended = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        threshold: 0.6,
        pause: Duration::from_secs(10),
        per_hour: 3,
    };

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn one_anomaly_is_looked_at_once() {
        let mut gate = Gate::default();
        assert_eq!(gate.ask(&LIMITS, 1, at(0)), Ok(()));
        assert_eq!(gate.ask(&LIMITS, 2, at(1)), Err(Held::Pause), "it goes on");
        gate.done(at(3));
        assert_eq!(gate.ask(&LIMITS, 1, at(60)), Err(Held::Same));
        gate.low(&LIMITS, 1, 0.5);
        assert_eq!(gate.ask(&LIMITS, 1, at(61)), Err(Held::Same), "not low");
        gate.low(&LIMITS, 1, 0.2);
        assert_eq!(gate.ask(&LIMITS, 1, at(62)), Ok(()));
    }

    #[test]
    fn there_is_a_pause_and_an_hour() {
        let mut gate = Gate::default();
        for generation in 0..3 {
            let now = at(u64::from(generation) * 10);
            assert_eq!(gate.ask(&LIMITS, generation, now), Ok(()));
            gate.done(now);
            assert_eq!(gate.ask(&LIMITS, 9, now + at(9)), Err(Held::Pause));
        }
        assert_eq!(gate.ask(&LIMITS, 9, at(600)), Err(Held::Hour));
        assert_eq!(gate.ask(&LIMITS, 9, at(3_600)), Ok(()));
    }
}
