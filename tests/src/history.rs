//! What the journal says of rollouts, as `hotlb history` tells it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{host::Host, wait};

/// Longest time from the start of an agent to the end of the rollouts it found; hooks included.
const RESUME_LIMIT: Duration = Duration::from_secs(30);

/// The newest rollouts in short, newest first.
pub fn list(host: &Host) -> Result<Vec<Value>> {
    let run = host.ok(&["history", "--output", "json"])?;
    let all: Value = serde_json::from_str(&run.stdout)?;
    let rollouts = all.get("rollouts").and_then(Value::as_array);
    Ok(rollouts.context("no rollouts")?.clone())
}

/// The newest rollout with its records.
pub fn last(host: &Host) -> Result<Value> {
    let list = list(host)?;
    let id = list.first().context("no rollout")?["id"]
        .as_str()
        .context("no id")?
        .to_owned();
    let run = host.ok(&["history", "show", &id, "--output", "json"])?;
    Ok(serde_json::from_str(&run.stdout)?)
}

/// The records of a rollout.
pub fn records(told: &Value) -> Vec<&Value> {
    let entries = told["entries"].as_array().into_iter().flatten();
    entries.map(|entry| &entry["record"]).collect()
}

/// The phases a rollout entered, in order.
pub fn phases(told: &Value) -> Vec<&str> {
    let phases = records(told).into_iter().filter(|r| r["kind"] == "phase");
    phases.filter_map(|r| r["phase"].as_str()).collect()
}

/// True when every rollout has an outcome.
pub fn all_over(host: &Host) -> Result<bool> {
    Ok(list(host)?
        .iter()
        .all(|rollout| rollout["outcome"].is_string()))
}

/// Waits until every rollout has an outcome.
pub fn wait_all_over(host: &Host) -> Result<()> {
    let over = wait::until_true("every rollout is over", RESUME_LIMIT, || {
        all_over(host).is_ok_and(|over| over)
    });
    over.with_context(|| format!("{:#?}\nthe agent's log:\n{}", list(host), host.agent_log()))
}

/// Fails unless the newest rollout ended with this outcome.
pub fn expect_outcome(host: &Host, outcome: &str) -> Result<Value> {
    let told = last(host)?;
    let found = told.get("outcome").and_then(Value::as_str);
    ensure!(found == Some(outcome), "{told:#}");
    Ok(told)
}
