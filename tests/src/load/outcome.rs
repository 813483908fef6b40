//! What a load has seen.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, ensure};

use super::times::Times;
use crate::{failure::Failure, http::Response, patience};

/// Notes kept of failed and of slow requests.
const NOTES: usize = 10;

/// The count of a load.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Requests with a whole answer and status 200.
    pub ok: u64,
    /// Requests without one, whatever the reason.
    pub failed: u64,
    /// Connections that were made.
    pub connections: u64,
    /// Those of the failed whose connection was refused.
    pub refused: u64,
    /// Good requests that took longer than [`patience::slow`].
    pub slow: u64,
    /// The longest good request.
    pub max: Duration,
    /// How long good requests took.
    pub times: Times,
    /// Good requests by the generation that answered.
    pub answers: BTreeMap<String, u64>,
    /// The first failed requests: when, after how long, why.
    pub failures: Vec<String>,
    /// The first slow requests: when, how long, who answered.
    pub slow_ones: Vec<String>,
    /// How long the load ran.
    pub took: Duration,
}

impl Outcome {
    /// Requests in all.
    pub fn requests(&self) -> u64 {
        self.ok + self.failed
    }

    /// Good requests that `generation` answered.
    pub fn by(&self, generation: &str) -> u64 {
        self.answers.get(generation).copied().unwrap_or_default()
    }

    /// Fails unless every request was answered.
    pub fn expect_none_failed(&self) -> Result<()> {
        ensure!(self.ok > 0, "not one request was answered: {self:#?}");
        ensure!(
            self.failed == 0,
            "{} of {} requests failed: {self:#?}",
            self.failed,
            self.requests()
        );
        Ok(())
    }

    /// Fails unless every request was answered in less than [`patience::slow`].
    pub fn expect_none_lost(&self) -> Result<()> {
        self.expect_none_failed()?;
        ensure!(
            self.slow == 0,
            "{} requests took longer than {:?}: {self:#?}",
            self.slow,
            patience::slow()
        );
        Ok(())
    }

    pub(super) fn record(
        &mut self,
        at: Duration,
        took: Duration,
        result: Result<Response, Failure>,
    ) {
        match result {
            Ok(response) if response.status == 200 => self.answered(at, took, response.generation),
            Ok(response) => self.failed(at, took, &Failure::Status(response.status)),
            Err(failure) => self.failed(at, took, &failure),
        }
    }

    fn answered(&mut self, at: Duration, took: Duration, generation: String) {
        self.ok += 1;
        self.max = self.max.max(took);
        self.times.record(took);
        if took > patience::slow() {
            self.slow += 1;
            note(&mut self.slow_ones, || {
                format!("at {at:?}: {took:?}, by {generation}")
            });
        }
        *self.answers.entry(generation).or_default() += 1;
    }

    fn failed(&mut self, at: Duration, took: Duration, failure: &Failure) {
        self.failed += 1;
        self.refused += u64::from(matches!(failure, Failure::Refused));
        note(&mut self.failures, || {
            format!("at {at:?}, after {took:?}: {failure}")
        });
    }
}

fn note(notes: &mut Vec<String>, text: impl FnOnce() -> String) {
    if notes.len() < NOTES {
        notes.push(text());
    }
}
