//! `cargo xtask bench`: what hotlb costs and what it gives, measured here and now.
//!
//! Everything that is compared is measured in turns within one run; medians and ranges are
//! printed, aims beside them, a missed aim as missed.
#![expect(clippy::print_stdout, reason = "a benchmark speaks through its output")]

mod cycles;
mod datagrams;
mod fail_over;
mod incidents;
mod latency;
mod polite;
mod prober;
mod profile;
mod promote;
mod proxies;
mod sample;
mod scale;
mod steer;
mod steer_udp;
mod throughput;
mod turn;
mod upgrades;
mod workers;

use anyhow::{Result, ensure};
use clap::Parser;

/// How much of it.
#[derive(Clone, Copy, Debug, Parser)]
struct Scale {
    /// A short run: fewer rounds, the same measurements.
    #[arg(long)]
    quick: bool,
    /// Only this part.
    #[arg(value_enum)]
    part: Option<Part>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// ns per run of the steering program.
    Steer,
    /// ns per run of the steering program for UDP.
    SteerUdp,
    /// Time until a promote is felt.
    Promote,
    /// Time until the clients of a killed generation are served.
    FailOver,
    /// New connections per second.
    Throughput,
    /// Datagrams per second.
    Datagrams,
    /// Upgrades under load, beside what servers can do by themselves.
    Upgrades,
    /// New connections through hotlb and through proxies.
    Proxies,
    /// Upgrades under kept connections, with polite drain and without.
    Polite,
    /// What it costs to measure latency.
    Latency,
    /// What profiles cost, beside perf.
    Profile,
    /// Which worker takes a connection.
    Workers,
    /// What the agent holds after many generations.
    Cycles,
    /// Start, memory, idle agent, promotes and connections with many services, listeners and
    /// generations.
    Scale,
    /// Which injected anomalies become incidents. Twelve minutes; only when it is named.
    Incidents,
}

impl Scale {
    /// `full` rounds, or a fifth of them.
    fn rounds(self, full: usize) -> usize {
        if self.quick { full.div_ceil(5) } else { full }
    }
}

fn main() -> Result<()> {
    let scale = Scale::parse();
    let mut failed = Vec::new();
    for &(part, heading, what, measure) in PARTS {
        let wanted = match scale.part {
            Some(only) => only == part,
            None => part != Part::Incidents,
        };
        if !wanted {
            continue;
        }
        println!("== {heading}\n{what}");
        // The others may take half an hour: one that fails is said, and they go on.
        if let Err(error) = measure(scale) {
            println!("**Not measured to the end**: {error:#}");
            failed.push(heading);
        }
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

/// Measures one part.
type Measure = fn(Scale) -> Result<()>;

/// What `cargo xtask bench` makes headings of, and what is said below them.
const PARTS: &[(Part, &str, &str, Measure)] = &[
    (
        Part::Steer,
        "The steering program",
        "ns per run of `steer`, and of a program that does nothing; kernel statistics on.",
        steer::measure,
    ),
    (
        Part::SteerUdp,
        "The steering program for UDP",
        "ns per run of `steer_udp`, with flows and without, and of a program that does nothing.",
        steer_udp::measure,
    ),
    (
        Part::Promote,
        "Promote and rollback",
        "From the API call to the first whole answer of the other generation, one connection after the other; under \
         load: beside 32 new connections at a time.",
        promote::measure,
    ),
    (
        Part::FailOver,
        "Crash",
        "From the SIGKILL to the first answer of the fallback generation.",
        fail_over::measure,
    ),
    (
        Part::Throughput,
        "New connections",
        "Per second, hotlb with all that is on by default and plain SO_REUSEPORT in turns; nginx.",
        throughput::measure,
    ),
    (
        Part::Datagrams,
        "Datagrams",
        "Asked and answered per second by eight clients that wait for each answer: flows, no flows, and plain \
         SO_REUSEPORT in turns; two sockets each.",
        datagrams::measure,
    ),
    (
        Part::Upgrades,
        "Upgrades under load",
        "By hotlb and by what servers can do by themselves.",
        upgrades::measure,
    ),
    (
        Part::Proxies,
        "Through proxies",
        "New connections: straight, through hotlb, through proxies with one process each; two nginx workers behind \
         all of them.",
        proxies::measure,
    ),
    (
        Part::Polite,
        "Polite drain",
        "Upgrades under 64 kept connections (wrk), with polite drain and by the signal alone.",
        polite::measure,
    ),
    (
        Part::Latency,
        "What measuring latency costs",
        "Requests per second while latency is measured, and while it is not, in turns.",
        latency::measure,
    ),
    (
        Part::Profile,
        "What profiles cost, beside perf record",
        "nginx under kept connections, in turns of some five seconds.",
        profile::measure,
    ),
    (
        Part::Workers,
        "Workers",
        "Four workers that serve one connection at a time, 32 clients, in turns.",
        workers::measure,
    ),
    (
        Part::Cycles,
        "Generation after generation",
        "Promoted, drained, retired.",
        cycles::measure,
    ),
    (
        Part::Scale,
        "Scale",
        "One agent with 1 to 500 services, 1 to 1,000 listeners, 1 to 65 generations.",
        scale::measure,
    ),
    (
        Part::Incidents,
        "Incidents",
        "Anomalies injected into two generations under a load that varies, and what is found of them.",
        incidents::measure,
    ),
];
