//! `cargo xtask soak` and `miri`: what looks for faults nobody has thought of.

use std::process::Command;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{command, demo, project::Project};

/// The arguments of `cargo xtask soak`.
#[derive(Debug, Args)]
pub(crate) struct SoakArguments {
    /// How many minutes
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Repeats the order of another run
    #[arg(long)]
    seed: Option<u64>,
    /// Only this kind of step, such as `kill-active`; may be given several times
    #[arg(long)]
    only: Vec<String>,
}

/// Rollouts, kills and load in a random order.
pub(crate) fn soak(arguments: &SoakArguments, project: &Project) -> Result<()> {
    let minutes = arguments.minutes.to_string();
    let seed = arguments.seed.map(|seed| seed.to_string());
    let mut words = vec!["--minutes", &minutes];
    if let Some(seed) = &seed {
        words.extend(["--seed", seed]);
    }
    for step in &arguments.only {
        words.extend(["--only", step]);
    }
    demo::run(project, "soak", &words)
}

/// The unit tests of what the kernel programs share, interpreted, but for those that try more than
/// an interpreter gets through.
pub(crate) fn miri(project: &Project) -> Result<()> {
    let mut has = Command::new("cargo");
    command::capture(has.args(["+nightly", "miri", "--version"])).context(
        "miri is not there; `rustup toolchain install nightly` and \
         `rustup component add --toolchain nightly miri rust-src` get it",
    )?;
    let mut cargo = Command::new("cargo");
    cargo.current_dir(project.root());
    cargo.args([
        "+nightly",
        "miri",
        "test",
        "--package",
        "lb-common",
        "--lib",
    ]);
    command::run(&mut cargo)
}
