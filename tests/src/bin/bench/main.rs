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

use anyhow::Result;
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
    for &(part, title, measure) in PARTS {
        let wanted = match scale.part {
            Some(only) => only == part,
            None => part != Part::Incidents,
        };
        if wanted {
            println!("{title}");
            measure(scale)?;
        }
    }
    Ok(())
}

/// Measures one part.
type Measure = fn(Scale) -> Result<()>;

const PARTS: &[(Part, &str, Measure)] = &[
    (
        Part::Steer,
        "ns per run of steer, and of a program that does nothing (kernel statistics on)",
        steer::measure,
    ),
    (
        Part::SteerUdp,
        "ns per run of steer_udp, with flows and without, and of a program that does nothing",
        steer_udp::measure,
    ),
    (
        Part::Promote,
        "promote and rollback, from the API call to the first answer of the other generation",
        promote::measure,
    ),
    (
        Part::FailOver,
        "a crash, from the SIGKILL to the first answer of the generation that stands in",
        fail_over::measure,
    ),
    (
        Part::Throughput,
        "new connections per second, hotlb and plain SO_REUSEPORT in turns",
        throughput::measure,
    ),
    (
        Part::Datagrams,
        "datagrams per second: flows, no flows, and plain SO_REUSEPORT in turns",
        datagrams::measure,
    ),
    (
        Part::Upgrades,
        "upgrades under load, by hotlb and by what servers can do by themselves",
        upgrades::measure,
    ),
    (
        Part::Proxies,
        "new connections: straight, through hotlb, through proxies",
        proxies::measure,
    ),
    (
        Part::Polite,
        "upgrades under 64 kept connections (wrk), with polite drain and by the signal alone",
        polite::measure,
    ),
    (
        Part::Latency,
        "requests per second while latency is measured, and while it is not, in turns",
        latency::measure,
    ),
    (
        Part::Profile,
        "what profiles cost, beside perf record",
        profile::measure,
    ),
    (
        Part::Workers,
        "four workers that serve one connection at a time, 32 clients, in turns",
        workers::measure,
    ),
    (
        Part::Cycles,
        "generation after generation: promoted, drained, retired",
        cycles::measure,
    ),
    (
        Part::Scale,
        "one agent with 1 to 500 services, 1 to 1,000 listeners, 1 to 65 generations",
        scale::measure,
    ),
    (
        Part::Incidents,
        "anomalies injected into two generations under a load that varies, and what is found of them",
        incidents::measure,
    ),
];
