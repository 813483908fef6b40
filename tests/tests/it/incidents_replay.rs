//! Promise: of 40 anomalies in a recorded run of two generations 39 or more pass the first stage, and 91.7 % or more of
//! the windows do not. The run was real: `cargo xtask bench incidents` recorded it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hotlb::{config::IncidentPolicy, incident::Limits};
use hotlb_tests::{incidents::recording::Recording, report};

const RECORDING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/incidents.json");
const ANOMALIES: usize = 40;

/// The usual limits, but for how often one looks: the anomalies follow each other faster than in life.
fn limits() -> Limits {
    Limits {
        pause: Duration::from_secs(1),
        per_hour: 3_600,
        ..IncidentPolicy::default().limits
    }
}

#[test]
fn the_first_stage_passes_the_anomalies_and_little_else() -> Result<()> {
    let text = std::fs::read_to_string(RECORDING).context(RECORDING)?;
    let recording: Recording = serde_json::from_str(&text)?;
    ensure!(recording.anomalies.len() == ANOMALIES, "another number");
    let outcome = recording.replay(&limits())?;
    let (matched, others) = recording.match_up(&outcome.captured);
    let captured = matched.iter().filter(|(_, found)| found.is_some());
    let captured = captured.count();
    let permille = |part: usize| 1_000 * part / outcome.scored.max(1);
    let below = permille(outcome.scored - outcome.unusual);
    report::figure("incidents: of 40 anomalies captured", captured);
    report::figure("incidents: captures without an anomaly", others.len());
    report::figure(
        "incidents: windows, scored",
        format!("{}, {}", outcome.windows, outcome.scored),
    );
    report::figure("incidents: windows below the threshold, permille", below);
    report::figure(
        "incidents: windows not looked at closely, permille",
        permille(outcome.scored - outcome.captured.len()),
    );
    let missed: Vec<_> = matched
        .iter()
        .filter(|(_, found)| found.is_none())
        .collect();
    ensure!(captured >= 39, "missed: {missed:#?}");
    ensure!(below >= 917, "{below} permille: {others:#?}");
    Ok(())
}

#[test]
fn a_higher_threshold_passes_less_and_a_bound_holds() -> Result<()> {
    let recording: Recording = serde_json::from_str(&std::fs::read_to_string(RECORDING)?)?;
    let usual = recording.replay(&limits())?;
    let strict = recording.replay(&Limits {
        threshold: 0.85,
        ..limits()
    })?;
    ensure!(strict.unusual < usual.unusual / 2, "{strict:?}");
    let bounded = recording.replay(&Limits {
        per_hour: 6,
        ..limits()
    })?;
    ensure!(bounded.captured.len() == 6, "{:?}", bounded.captured.len());
    Ok(())
}
