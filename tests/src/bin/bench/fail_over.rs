//! How long until clients of a generation that was killed are served by another one.

use std::time::Instant;

use anyhow::Result;
use hotlb_tests::{
    host::Host,
    load::{Load, Plan},
    report,
    servers::Kind,
    wait,
};
use nix::sys::signal::{Signal, kill};

use crate::{
    Scale,
    prober::Prober,
    sample::{Sample, against_aim},
    turn::LIMIT,
};

const TARGET: &str = "127.0.0.1:8080";
const ROUNDS: usize = 50;
const AIM_MS: f64 = 5.0;

pub(crate) fn measure(scale: Scale) -> Result<()> {
    for clients in [0, 32] {
        series(clients, scale.rounds(ROUNDS))?;
    }
    Ok(())
}

/// The active generation is killed again and again, beside so many `clients`.
fn series(clients: usize, rounds: usize) -> Result<()> {
    let host = Host::with_service("listen = [\"0.0.0.0:8080\"]")?;
    deploy(&host, 0)?;
    host.promote(&name(0))?;
    let prober = Prober::start(&host, TARGET.parse()?)?;
    let load = match clients {
        0 => None,
        clients => Some(Load::start(
            host.netns(),
            Plan::new(TARGET.parse()?).workers(clients),
        )?),
    };
    let mut felt = Vec::new();
    for round in 0..rounds {
        let (active, next) = (name(round), name(round + 1));
        deploy(&host, round + 1)?;
        wait::until_true("there is one that stands in", LIMIT, || {
            host.web()
                .is_ok_and(|web| web.fallback.as_ref() == Some(&next))
        })?;
        let process = host.generation(&active)?.process()?;
        let began = Instant::now();
        kill(process, Signal::SIGKILL)?;
        felt.push(prober.felt_after_a_kill(began, &next)?);
        wait::until_true("the fail-over is official", LIMIT, || {
            host.web()
                .is_ok_and(|web| web.active.as_ref() == Some(&next))
        })?;
    }
    prober.stop()?;
    let when = if clients == 0 { "idle" } else { "under load" };
    if let Some(load) = load {
        let outcome = load.stop()?;
        report::figure("requests meanwhile", outcome.requests());
        report::figure(
            "of these failed, which the killed servers had accepted",
            outcome.failed,
        );
        report::figure("of these refused", outcome.refused);
    }
    let felt: Sample = felt.into_iter().collect();
    let p99 = felt.quantile(0.99);
    against_aim(
        &format!("crash, {when}: first answer of the next, ms p50 / p99"),
        &format!("{:.2} / {p99:.2}", felt.median()),
        &format!("p99 under {AIM_MS} ms"),
        p99 < AIM_MS,
    );
    Ok(())
}

fn name(number: usize) -> String {
    format!("gen{number}")
}

fn deploy(host: &Host, number: usize) -> Result<()> {
    let name = name(number);
    let server = Kind::Plain.command(host.directory(), &name, 8080)?;
    host.deploy(&name, &server).map(drop)
}
