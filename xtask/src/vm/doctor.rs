//! `hotlb doctor` in the machine: which features its kernel has.

use std::{
    fs::{self, File},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// The file with its answer.
const ANSWER: &str = "doctor.json";

/// What it says of one thing.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Finding {
    /// What was looked at.
    pub(super) check: String,
    /// ok, degraded, missing.
    pub(super) verdict: String,
    /// What was found.
    pub(super) found: String,
    /// What does not work without it.
    pub(super) cost: Option<String>,
}

impl Finding {
    /// Whether it is as hotlb wants it.
    pub(super) fn is_ok(&self) -> bool {
        self.verdict == "ok"
    }

    /// Whether hotlb does not work without it.
    pub(super) fn is_missing(&self) -> bool {
        self.verdict == "missing"
    }
}

/// Asks in the machine; a verdict of its own, whatever it is, is no error here.
pub(super) fn ask(hotlb: &Path, shared: &Path) -> Result<Vec<Finding>> {
    let answer = File::create(shared.join(ANSWER))?;
    Command::new(hotlb)
        .args(["doctor", "--output", "json"])
        .stdout(answer)
        .status()
        .with_context(|| format!("start {}", hotlb.display()))?;
    read(shared)
}

/// What was answered.
pub(super) fn read(shared: &Path) -> Result<Vec<Finding>> {
    let text = fs::read_to_string(shared.join(ANSWER))?;
    serde_json::from_str(&text).context("`hotlb doctor` in the machine did not answer")
}
