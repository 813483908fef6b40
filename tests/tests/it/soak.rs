//! Promise: rollouts, kills of every process and load in a random order leave a service that every guarantee holds of.

use std::time::Duration;

use anyhow::Result;
use hotlb_tests::soak::Soak;

/// The order is always the same: a failure can be looked at.
const SEED: u64 = 20;
const TIME: Duration = Duration::from_secs(20);

#[test]
fn twenty_seconds_of_everything() -> Result<()> {
    let summary = Soak::new(SEED)?.run(TIME)?;
    summary.report();
    anyhow::ensure!(summary.steps() > 5, "{summary:?}");
    Ok(())
}
