//! `cargo xtask check-times`: how long `cargo check` of the program takes after a file was touched, for files of parts that
//! are changed most.

use std::{fs::File, time::Instant};

use anyhow::{Context as _, Result};
use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};

use crate::{command, project::Project};

/// Of the command line, of a rollout's effects, and of its decisions.
const FILES: [&str; 3] = [
    "lb-userspace/crates/cli/src/status.rs",
    "lb-userspace/crates/agent/src/agent/service/rollout/mod.rs",
    "lb-userspace/crates/core/src/rollout/step.rs",
];
const RUNS: usize = 5;

const NOW: Timestamps = Timestamps {
    last_access: AT_ONCE,
    last_modification: AT_ONCE,
};
const AT_ONCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: UTIME_NOW,
};

/// Prints the median of five runs for each file. Only times of files are changed.
pub(crate) fn run(project: &Project) -> Result<()> {
    let check = || command::capture(project.cargo().args(["check", "--package", "lb-userspace"]));
    // Whatever is not checked yet.
    check()?;
    for file in FILES {
        let touched = File::options().append(true).open(project.root().join(file));
        let touched = touched.with_context(|| file.to_owned())?;
        let mut times = Vec::new();
        for _run in 0..RUNS {
            futimens(&touched, &NOW)?;
            let began = Instant::now();
            check()?;
            times.push(began.elapsed());
        }
        times.sort_unstable();
        let median = times.get(RUNS / 2).context("no run")?;
        println!("{file}: {:.2} s", median.as_secs_f64());
    }
    Ok(())
}
