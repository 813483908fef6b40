//! `cargo xtask soak`: rollouts, kills and load in a random order, for as long as one likes.
#![expect(clippy::print_stdout, reason = "a program speaks through its output")]

use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use hotlb_tests::soak::{Soak, Step};

/// How long, and in which order.
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// How many minutes
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Repeats the order of another run
    #[arg(long)]
    seed: Option<u64>,
    /// Only this kind of step; may be given several times
    #[arg(long, value_enum)]
    only: Vec<Step>,
}

fn main() -> Result<()> {
    let Arguments {
        minutes,
        seed,
        only,
    } = Arguments::parse();
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("seed {seed}; `--seed {seed}` repeats the order of the steps");
    let soak = Soak::new(seed)?.only(only);
    let summary = soak.run(Duration::from_secs(minutes * 60));
    let summary = summary.with_context(|| format!("with --seed {seed}"))?;
    summary.report();
    Ok(())
}
