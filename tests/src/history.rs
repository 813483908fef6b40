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
    let newest = list.first().context("no rollout")?;
    let id = text(newest, "/id").context("no id")?;
    let run = host.ok(&["history", "show", id, "--output", "json"])?;
    Ok(serde_json::from_str(&run.stdout)?)
}

/// The words at this JSON pointer.
pub fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer)?.as_str()
}

/// The records of a rollout.
pub fn records(told: &Value) -> Vec<&Value> {
    let entries = told.get("entries").and_then(Value::as_array);
    let entries = entries.into_iter().flatten();
    entries.filter_map(|entry| entry.get("record")).collect()
}

/// The phases a rollout entered, in order.
pub fn phases(told: &Value) -> Vec<&str> {
    let entered = |record: &&Value| text(record, "/kind") == Some("phase");
    let phases = records(told).into_iter().filter(entered);
    phases.filter_map(|record| text(record, "/phase")).collect()
}

/// True when every rollout has an outcome.
pub fn all_over(host: &Host) -> Result<bool> {
    Ok(list(host)?
        .iter()
        .all(|rollout| text(rollout, "/outcome").is_some()))
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
    ensure!(text(&told, "/outcome") == Some(outcome), "{told:#}");
    Ok(told)
}
