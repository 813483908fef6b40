//! Windows of a real run, with what went wrong in it: recorded by `cargo xtask bench incidents`, and scored again by
//! whoever reads them.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result};
use hotlb::incident::{Limits, Quantiles, Screen, Verdict, Window};
use serde::{Deserialize, Serialize};

/// A run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Recording {
    /// What went wrong.
    pub anomalies: Vec<Anomaly>,
    /// The generations, by their place here.
    pub generations: Vec<String>,
    /// The windows: the generation, when it ended, and its values as [`row`] has them.
    pub windows: Vec<Vec<u64>>,
}

/// Something that went wrong on purpose. Times are in milliseconds since the run began.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Anomaly {
    /// The generation it was done to.
    pub generation: String,
    /// What was done.
    pub kind: String,
    /// When it began.
    pub from_ms: u64,
    /// When it ended.
    pub until_ms: u64,
}

/// A window that was to be looked at closely.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The generation.
    pub generation: String,
    /// When the window ended.
    pub at_ms: u64,
    /// Its score.
    pub score: f64,
    /// Its reason.
    pub reason: String,
}

/// What the first stage made of a recording.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Windows.
    pub windows: usize,
    /// Those with a score.
    pub scored: usize,
    /// Those with a score of the threshold or more.
    pub unusual: usize,
    /// Those that were to be looked at closely.
    pub captured: Vec<Found>,
}

/// After an anomaly has ended, what it left is still answered for so long.
pub const AFTERMATH_MS: u64 = 2_000;
/// How long a close look takes.
const LOOK: Duration = Duration::from_secs(3);

impl Recording {
    /// Scores all windows again, second by second.
    pub fn replay(&self, limits: &Limits) -> Result<Outcome> {
        let mut seconds: BTreeMap<u64, Vec<(u32, &str, Window)>> = BTreeMap::new();
        for row in &self.windows {
            let (place, window) = read(row).context("a row is too short")?;
            let name = self.generations.get(place).context("a generation")?;
            let at = u64::try_from(window.at_ms)?;
            let windows = seconds.entry(at).or_default();
            windows.push((u32::try_from(place)? + 1, name, window));
        }
        let mut screen = Screen::default();
        let mut outcome = Outcome::default();
        let mut ends: Option<Duration> = None;
        for (at_ms, windows) in seconds {
            let now = Duration::from_millis(at_ms);
            if let Some(end) = ends.take_if(|end| *end <= now) {
                screen.captured(end);
            }
            for found in screen.judge(&windows, limits, now) {
                outcome.windows += 1;
                let Some(score) = found.score else {
                    continue;
                };
                outcome.scored += 1;
                outcome.unusual += usize::from(score.value >= limits.threshold);
                if found.verdict == Verdict::Capture {
                    ends = Some(now + LOOK);
                    outcome.captured.push(Found {
                        generation: found.generation,
                        at_ms,
                        score: score.value,
                        reason: score.reason,
                    });
                }
            }
        }
        Ok(outcome)
    }

    /// Which anomalies were found, in their order, and what was found that was none.
    pub fn match_up<'a>(
        &'a self,
        found: &'a [Found],
    ) -> (Vec<(&'a Anomaly, Option<&'a Found>)>, Vec<&'a Found>) {
        let hits = |anomaly: &Anomaly, found: &Found| {
            let within = anomaly.from_ms..=anomaly.until_ms + AFTERMATH_MS;
            found.generation == anomaly.generation && within.contains(&found.at_ms)
        };
        let first = |anomaly: &'a Anomaly| found.iter().find(|found| hits(anomaly, found));
        let matched = self
            .anomalies
            .iter()
            .map(|anomaly| (anomaly, first(anomaly)));
        let is_false = |found: &&Found| !self.anomalies.iter().any(|anomaly| hits(anomaly, found));
        (matched.collect(), found.iter().filter(is_false).collect())
    }
}

/// A window as numbers: the generation's place, when it ended, how long it was, and its values. An absent value is
/// 0, a present one is one more.
pub fn row(place: usize, window: &Window, began_ms: i64) -> Vec<u64> {
    let Window { wait, service, .. } = window;
    vec![
        place as u64,
        u64::try_from(window.at_ms - began_ms).unwrap_or_default(),
        window.took_ms,
        window.opened,
        window.closed,
        window.live,
        window.lost,
        window.abandoned,
        window.requests,
        wait.count,
        wait.p50,
        wait.p90,
        wait.p99,
        service.count,
        service.p50,
        service.p90,
        service.p99,
        window.cpu_us.map_or(0, |us| us + 1),
        window.dropped,
        window.queue.into(),
        window.unread.map_or(0, |unread| u64::from(unread) + 1),
    ]
}

fn read(row: &[u64]) -> Option<(usize, Window)> {
    let at = |place: usize| row.get(place).copied();
    let quantiles = |first: usize| {
        Some(Quantiles {
            count: at(first)?,
            p50: at(first + 1)?,
            p90: at(first + 2)?,
            p99: at(first + 3)?,
        })
    };
    let window = Window {
        at_ms: i64::try_from(at(1)?).ok()?,
        took_ms: at(2)?,
        opened: at(3)?,
        closed: at(4)?,
        live: at(5)?,
        lost: at(6)?,
        abandoned: at(7)?,
        requests: at(8)?,
        wait: quantiles(9)?,
        service: quantiles(13)?,
        cpu_us: at(17)?.checked_sub(1),
        dropped: at(18)?,
        queue: u32::try_from(at(19)?).ok()?,
        unread: at(20)?.checked_sub(1).and_then(|n| u32::try_from(n).ok()),
    };
    Some((usize::try_from(at(0)?).ok()?, window))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_read_as_it_was_written() {
        let window = Window {
            at_ms: 5_000,
            took_ms: 1_001,
            requests: 7,
            cpu_us: Some(0),
            queue: 3,
            unread: Some(0),
            ..Window::default()
        };
        let written = row(1, &window, 2_000);
        let expected = Window {
            at_ms: 3_000,
            ..window
        };
        assert_eq!(read(&written), Some((1, expected)));
        assert_eq!(read(&[1, 2]), None);
    }
}
