//! What it costs to measure how long clients wait.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use hotlb::{
    datapath::{Declared, Former, Pins, Renewal, ServicePath},
    sys::netns::Netns,
};
use hotlb_tests::{host::Host, load::Plan, report, servers::Nginx};

use crate::{
    Scale,
    sample::{Sample, against_aim},
    turn::Turn,
};

const LISTEN: &str = "0.0.0.0:8080";
const TARGET: &str = "127.0.0.1:8080";
/// Requests a turn.
const EACH: u64 = 5_000;
const ROUNDS: usize = 100;
const AIM: f64 = 0.98;

pub(crate) fn measure(scale: Scale) -> Result<()> {
    let host = Host::with_service(&format!("listen = [\"{LISTEN}\"]"))?;
    let server = Nginx::new("gen1").listen(&format!("{LISTEN} reuseport"));
    host.upgrade("gen1", &server.command(host.directory())?)?;
    let target: SocketAddr = TARGET.parse()?;
    let declared = Declared {
        addresses: vec![LISTEN.parse()?],
        datagrams: None,
        uid: 0,
        undeclared: 0,
        steered_by: None,
    };
    let pins = Pins::new(host.bpffs(), "web");
    let (path, _writer) =
        ServicePath::open_or_create(pins, &host.cgroup()?, &declared, Former::Kept)?;
    ensure!(*path.renewal() == Renewal::Found, "the agent's pins");
    pairs(&host, &path, "new connections", scale, || {
        Ok(Turn::take(&host, Plan::new(target), EACH)?.rate())
    })?;
    pairs(&host, &path, "requests on kept connections", scale, || {
        Ok(Turn::take(&host, Plan::new(target).keep_alive(), EACH)?.rate())
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
