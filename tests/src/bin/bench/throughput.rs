//! New connections per second through hotlb and through plain `SO_REUSEPORT`.

use std::net::SocketAddr;

use anyhow::Result;
use hotlb_tests::{
    host::Host, load::Plan, process::Process, report, servers::Nginx, wait, waiting::Waiting,
};

use crate::{
    Scale,
    sample::{Sample, against_aim},
    turn::{LIMIT, Turn},
};

const STEERED: &str = "127.0.0.1:8080";
const PLAIN: &str = "127.0.0.1:8081";
/// New connections a turn. Short turns and many: what else the machine does falls on both.
const EACH: u64 = 5_000;
const ROUNDS: usize = 100;
const AIM: f64 = 0.98;

pub(crate) fn measure(scale: Scale) -> Result<()> {
    let host = Host::with_service("listen = [\"0.0.0.0:8080\"]")?;
    let steered = Nginx::new("gen1").listen("0.0.0.0:8080 reuseport");
    host.deploy("gen1", &steered.command(host.directory())?)?;
    host.promote("gen1")?;
    let _plain = plain(&host)?;
    let mut rates = (Vec::new(), Vec::new());
    for round in 0..scale.rounds(ROUNDS) {
        // Who goes first changes from pair to pair.
        let (first, second) = if round % 2 == 0 {
            (STEERED, PLAIN)
        } else {
            (PLAIN, STEERED)
        };
        let first = Turn::take(&host, Plan::new(first.parse()?), EACH)?.rate();
        let second = Turn::take(&host, Plan::new(second.parse()?), EACH)?.rate();
        let (with, plain) = if round % 2 == 0 {
            (first, second)
        } else {
            (second, first)
        };
        rates.0.push(with);
        rates.1.push(plain);
    }
    let ratio: Sample = rates
        .0
        .iter()
        .zip(&rates.1)
        .map(|(with, plain)| with / plain)
        .collect();
    let describe = |rates: Vec<f64>| rates.into_iter().collect::<Sample>().describe(0);
    report::figure("hotlb, connections per second", describe(rates.0));
    report::figure(
        "plain SO_REUSEPORT, connections per second",
        describe(rates.1),
    );
    against_aim(
        "ratio, pair by pair",
        &ratio.describe(3),
        &format!("at least {AIM}"),
        ratio.median() >= AIM,
    );
    Ok(())
}

fn plain(host: &Host) -> Result<Process> {
    let line = Nginx::new("plain")
        .listen("0.0.0.0:8081 reuseport")
        .command(host.directory())?;
    let process = host.start_beside(&line)?;
    let target: SocketAddr = PLAIN.parse()?;
    wait::until_true("nginx listens", LIMIT, || {
        Waiting::open(host.netns(), target, 1).is_ok()
    })?;
    Ok(process)
}
