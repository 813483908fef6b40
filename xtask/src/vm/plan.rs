//! What a machine is told to do and what it reports, as files in the directory it shares with this one.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The file with the plan.
const PLAN: &str = "plan.json";
/// The file with the rows, one a line, written as they come.
const ROWS: &str = "rows.json";

/// What is to run in a machine.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    /// This program.
    pub(super) xtask: PathBuf,
    /// The binary under test.
    pub(super) hotlb: PathBuf,
    /// What asks the verifier.
    pub(super) verifier: PathBuf,
    /// The integration tests; none if only the doctor is asked.
    pub(super) tests: Option<Program>,
    /// How many times as long deadlines are.
    pub(super) patience: u32,
    /// The longest a module may run.
    pub(super) deadline_minutes: u32,
}

/// The built program of all integration tests, and which of them are to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Program {
    /// The executable.
    pub(super) path: PathBuf,
    /// Where it runs: the directory of its package.
    pub(super) directory: PathBuf,
    /// In their order.
    pub(super) modules: Vec<Module>,
}

/// A module of tests, run by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Module {
    /// Its name.
    pub(super) name: String,
    /// Its tests, at least one, with the module in their names.
    pub(super) tests: Vec<String>,
}

/// One thing that was done in a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "row")]
pub(super) enum Row {
    /// The machine itself.
    Machine {
        /// The controllers of its cgroup2, as the kernel names them.
        controllers: String,
    },
    /// One module of tests.
    Module {
        /// Its name.
        name: String,
        /// What it wrote.
        output: String,
        /// Whether it ended by itself.
        ended: bool,
        /// What it did not test and why, lines of the harness's report.
        skips: Vec<String>,
        /// Seconds on the clock of the machine.
        seconds: u64,
    },
    /// One module that was not run: the kernel lacks what it tests.
    Degraded {
        /// Its name.
        name: String,
        /// What is lacking, in the doctor's words.
        why: String,
    },
    /// Everything was done.
    Done {
        /// Warnings of the kernel: oopses, hung tasks, the like.
        warnings: Vec<String>,
    },
}

impl Plan {
    /// What runs, one after the other.
    pub(super) fn modules(&self) -> &[Module] {
        self.tests.as_ref().map_or(&[], |tests| &tests.modules)
    }

    /// Writes it for a machine, and removes what an earlier one reported.
    pub(super) fn write(&self, shared: &Path) -> Result<()> {
        File::create(shared.join(ROWS))?;
        let text = serde_json::to_string_pretty(self)?;
        fs::write(shared.join(PLAN), text).context("write the plan")
    }

    /// Reads it, in the machine.
    pub(super) fn read(shared: &Path) -> Result<Self> {
        let text = fs::read_to_string(shared.join(PLAN)).context("read the plan")?;
        Ok(serde_json::from_str(&text)?)
    }
}

/// Adds a row, in the machine. It is with the host when this returns.
pub(super) fn report(shared: &Path, row: &Row) -> Result<()> {
    let mut file = OpenOptions::new().append(true).open(shared.join(ROWS))?;
    writeln!(file, "{}", serde_json::to_string(row)?)?;
    Ok(file.sync_all()?)
}

/// The rows of a machine that has ended.
pub(super) fn rows(shared: &Path) -> Result<Vec<Row>> {
    lines(&fs::read_to_string(shared.join(ROWS))?)
}

fn lines<T: DeserializeOwned>(text: &str) -> Result<Vec<T>> {
    let lines = text.lines().filter(|line| !line.is_empty());
    lines.map(|line| Ok(serde_json::from_str(line)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_in_the_order_they_came() {
        let shared = tempfile::tempdir().unwrap();
        let plan = Plan {
            xtask: "xtask".into(),
            hotlb: "hotlb".into(),
            verifier: "verifier".into(),
            tests: None,
            patience: 2,
            deadline_minutes: 1,
        };
        plan.write(shared.path()).unwrap();
        assert_eq!(Plan::read(shared.path()).unwrap().patience, 2);
        let written = [
            Row::Machine {
                controllers: "cpu memory".to_owned(),
            },
            Row::Done {
                warnings: Vec::new(),
            },
        ];
        for row in &written {
            report(shared.path(), row).unwrap();
        }
        assert_eq!(rows(shared.path()).unwrap(), written);
        plan.write(shared.path()).unwrap();
        assert_eq!(rows(shared.path()).unwrap(), []);
    }
}
