//! One turn of a load: so many requests, and how they went.

use std::time::Duration;

use anyhow::Result;
use hotlb_tests::{
    host::Host,
    load::{Load, Outcome, Plan},
};

/// How long a turn may take.
pub(crate) const LIMIT: Duration = Duration::from_mins(1);

/// A turn that is over; not one request failed.
#[derive(Debug)]
pub(crate) struct Turn(Outcome);

impl Turn {
    /// Has `count` requests asked as `plan` says.
    pub(crate) fn take(host: &Host, plan: Plan, count: u64) -> Result<Self> {
        let load = Load::start(host.netns(), plan.max_requests(count))?;
        load.wait_for("the turn", LIMIT, |outcome| outcome.requests() >= count)?;
        let outcome = load.stop()?;
        outcome.expect_none_failed()?;
        Ok(Self(outcome))
    }

    /// Requests per second.
    pub(crate) fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a count far below 2^52")]
        let requests = self.0.requests() as f64;
        requests / self.0.took.as_secs_f64()
    }

    /// The time that `part` (0 to 1) of the requests did not exceed, in milliseconds.
    pub(crate) fn ms(&self, part: f64) -> f64 {
        self.0.times.quantile(part).as_secs_f64() * 1e3
    }
}
