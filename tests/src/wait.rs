//! Waiting for a condition, with a deadline. The only place of the harness that polls.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::patience;

/// Time between two looks at a condition.
const INTERVAL: Duration = Duration::from_millis(2);

/// Asks `condition` until it gives a value; an error that names `what` when `limit`, times the machine's patience, is
/// over first.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Option<T>,
) -> Result<T> {
    let started = Instant::now();
    let limit = patience::of(limit);
    loop {
        if let Some(value) = condition() {
            return Ok(value);
        }
        if started.elapsed() >= limit {
            bail!("waited {limit:?} in vain: {what}");
        }
        pause();
    }
}

/// Like [`until`] for a yes or no.
pub fn until_true(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
    until(what, limit, || condition().then_some(()))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that polls; every caller has a deadline"
)]
fn pause() {
    std::thread::sleep(INTERVAL);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_never_holds_is_named() {
        let error = until_true("the moon", Duration::from_millis(10), || false).unwrap_err();
        assert!(error.to_string().contains("the moon"));
    }

    #[test]
    fn a_value_is_handed_out() {
        let mut asked = 0;
        let value = until("three", Duration::from_secs(1), || {
            asked += 1;
            (asked == 3).then_some(asked)
        });
        assert_eq!(value.unwrap(), 3);
    }
}
