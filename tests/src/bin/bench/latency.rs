//! What it costs to measure how long clients wait.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Result, ensure};
use hotlb::{
    datapath::{Declared, Pins, ServicePath},
    sys::netns::Netns,
};
use hotlb_tests::{
    host::Host,
    load::{Load, Plan},
    report,
    servers::Nginx,
};

use crate::{
    Scale,
    sample::{Sample, against_aim},
};

const LISTEN: &str = "0.0.0.0:8080";
const TARGET: &str = "127.0.0.1:8080";
/// Requests a turn.
const EACH: u64 = 5_000;
const ROUNDS: usize = 100;
const LIMIT: Duration = Duration::from_mins(1);
const AIM: f64 = 0.98;

pub(crate) fn measure(scale: Scale) -> Result<()> {
    let host = Host::with_service(&format!("listen = [\"{LISTEN}\"]"))?;
    let server = Nginx::new("gen1").listen(&format!("{LISTEN} reuseport"));
    host.upgrade("gen1", &server.command(host.directory())?)?;
    let target: SocketAddr = TARGET.parse()?;
    let declared = Declared {
        addresses: vec![LISTEN.parse()?],
        uid: 0,
        undeclared: 0,
    };
    let pins = Pins::new(host.bpffs(), "web");
    let (path, found) = ServicePath::open_or_create(pins, &host.cgroup()?, &declared)?;
    ensure!(found, "the agent's pins");
    pairs(&host, &path, "new connections", scale, || {
        rate(&host, Plan::new(target))
    })?;
    pairs(&host, &path, "requests on kept connections", scale, || {
        rate(&host, Plan::new(target).keep_alive())
    })
}

/// Turns with it and without; who goes first changes from pair to pair.
fn pairs(
    host: &Host,
    path: &ServicePath,
    what: &str,
    scale: Scale,
    turn: impl Fn() -> Result<f64>,
) -> Result<()> {
    let netns = Netns::open(&host.netns().path())?;
    let mut ratios = Vec::new();
    let mut measured = Vec::new();
    for round in 0..scale.rounds(ROUNDS) {
        let mut rates = [0.0; 2];
        for on in [round % 2 == 0, round % 2 != 0] {
            path.measure_latency(on, &netns)?;
            if let Some(rate) = rates.get_mut(usize::from(on)) {
                *rate = turn()?;
            }
        }
        let [without, with] = rates;
        ratios.push(with / without);
        measured.push(with);
    }
    path.measure_latency(true, &netns)?;
    ensure!(host.generation("gen1")?.latency.service_time.count > 0);
    let measured: Sample = measured.into_iter().collect();
    let ratio: Sample = ratios.into_iter().collect();
    report::figure(
        &format!("{what} per second, measured"),
        measured.describe(0),
    );
    against_aim(
        &format!("{what}: ratio to not measured, pair by pair"),
        &ratio.describe(3),
        &format!("at least {AIM}"),
        ratio.median() >= AIM,
    );
    Ok(())
}

fn rate(host: &Host, plan: Plan) -> Result<f64> {
    let load = Load::start(host.netns(), plan.max_requests(EACH))?;
    load.wait_for("the turn", LIMIT, |outcome| outcome.requests() >= EACH)?;
    let outcome = load.stop()?;
    outcome.expect_none_failed()?;
    #[expect(clippy::cast_precision_loss, reason = "a count far below 2^52")]
    let requests = outcome.requests() as f64;
    Ok(requests / outcome.took.as_secs_f64())
}
