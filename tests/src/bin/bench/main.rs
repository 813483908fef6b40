//! `cargo xtask bench`: what hotlb costs and what it gives, measured here and now.
//!
//! Everything that is compared is measured in turns within one run; medians and ranges are
//! printed, aims beside them, a missed aim as missed.
#![expect(clippy::print_stdout, reason = "a benchmark speaks through its output")]

mod overlap;
mod promote;
mod sample;
mod steer;
mod throughput;

use anyhow::Result;
use clap::Parser;

/// How much of it.
#[derive(Clone, Copy, Debug, Parser)]
pub(crate) struct Scale {
    /// A short run: fewer rounds, the same measurements.
    #[arg(long)]
    quick: bool,
}

impl Scale {
    /// `full` rounds, or a fifth of them.
    fn rounds(self, full: usize) -> usize {
        if self.quick { full.div_ceil(5) } else { full }
    }
}

fn main() -> Result<()> {
    let scale = Scale::parse();
    println!("ns per run of steer, and of a program that does nothing (kernel statistics on)");
    steer::measure(scale)?;
    println!(
        "\npromote and rollback, from the API call to the first answer of the other generation"
    );
    promote::measure(scale)?;
    println!("\nnew connections per second, hotlb and plain SO_REUSEPORT in turns");
    throughput::measure(scale)?;
    println!("\nupgrades of nginx under 32 new connections at a time");
    overlap::measure(scale)
}
