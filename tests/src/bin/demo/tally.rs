//! What the demonstration has measured.

use std::{fmt::Write as _, time::Duration};

use hotlb_tests::load::Outcome;

/// The sums over all chapters.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    chapters: Vec<Chapter>,
    steered_us: Vec<u64>,
}

/// One chapter's load and what happened meanwhile.
#[derive(Debug)]
struct Chapter {
    name: &'static str,
    requests: u64,
    failed: u64,
    slow: u64,
    slowest: Duration,
    upgrades: usize,
    rollbacks: usize,
}

impl Tally {
    /// Adds a chapter.
    pub(crate) fn add(
        &mut self,
        name: &'static str,
        outcome: &Outcome,
        upgrades: usize,
        rollbacks: usize,
    ) {
        self.chapters.push(Chapter {
            name,
            requests: outcome.requests(),
            failed: outcome.failed,
            slow: outcome.slow,
            slowest: outcome.max,
            upgrades,
            rollbacks,
        });
    }

    /// Adds the time from a promote's request to the store of the word.
    pub(crate) fn steered(&mut self, micros: u64) {
        self.steered_us.push(micros);
    }

    /// Failed requests of all chapters.
    pub(crate) fn failed(&self) -> u64 {
        self.chapters.iter().map(|chapter| chapter.failed).sum()
    }

    /// The table at the end.
    pub(crate) fn table(&self) -> String {
        let mut text = format!(
            "{:<44} {:>9} {:>7} {:>8} {:>11} {:>9} {:>10}\n",
            "", "REQUESTS", "FAILED", ">250 ms", "SLOWEST ms", "UPGRADES", "ROLLBACKS"
        );
        for chapter in &self.chapters {
            // Writing to a string cannot fail.
            let _infallible = writeln!(
                text,
                "{:<44} {:>9} {:>7} {:>8} {:>11} {:>9} {:>10}",
                chapter.name,
                chapter.requests,
                chapter.failed,
                chapter.slow,
                chapter.slowest.as_millis(),
                chapter.upgrades,
                chapter.rollbacks
            );
        }
        let sum = |value: fn(&Chapter) -> u64| self.chapters.iter().map(value).sum::<u64>();
        let _infallible = writeln!(
            text,
            "{:<44} {:>9} {:>7} {:>8} {:>11} {:>9} {:>10}",
            "all",
            sum(|c| c.requests),
            sum(|c| c.failed),
            sum(|c| c.slow),
            self.chapters
                .iter()
                .map(|c| c.slowest)
                .max()
                .unwrap_or_default()
                .as_millis(),
            sum(|c| c.upgrades as u64),
            sum(|c| c.rollbacks as u64)
        );
        let mut steered = self.steered_us.clone();
        steered.sort_unstable();
        let at = |part: usize| steered.get(steered.len().saturating_sub(1) * part / 100);
        if let (Some(&median), Some(&p99)) = (at(50), at(99)) {
            let _infallible = writeln!(
                text,
                "promote, request to store of the steering word: p50 {:.2} ms, p99 {:.2} ms, of {} \
                 (checks and a probe included)",
                millis(median),
                millis(p99),
                steered.len()
            );
        }
        text
    }
}

#[expect(clippy::cast_precision_loss, reason = "microseconds far below 2^52")]
fn millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}
