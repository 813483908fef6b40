//! New connections per second and their times: straight to the server, through hotlb, through proxies.

use std::net::SocketAddr;

use anyhow::Result;
use hotlb_tests::{
    host::Host,
    load::Plan,
    process::Process,
    report,
    servers::{Haproxy, Kind, Nginx, nginx},
    wait,
    waiting::Waiting,
};

use crate::{
    Scale,
    sample::{Sample, against_aim},
    turn::{LIMIT, Turn},
};

/// New connections a turn.
const EACH: u64 = 5_000;
const ROUNDS: usize = 40;
const AIM: f64 = 1.45;

/// A way to the server, with what was measured of it.
struct Way {
    name: &'static str,
    target: SocketAddr,
    turns: Vec<Turn>,
}

const SERVICES: &str = "\
[service.hash]\nlisten = [\"0.0.0.0:8081\"]\nworkers = \"hash\"\n\
[service.least]\nlisten = [\"0.0.0.0:8082\"]\nworkers = \"least\"\n";

pub(crate) fn measure(scale: Scale) -> Result<()> {
    if let Some(reason) = nginx::no_stream().or(Kind::Haproxy.missing()) {
        return report::skip("bench proxies", reason);
    }
    let host = Host::with_config(SERVICES)?;
    let _processes = start_all(&host)?;
    let mut ways = [
        Way::new("plain listeners", 8080),
        Way::new("hotlb hash", 8081),
        Way::new("hotlb least", 8082),
        Way::new("through haproxy, TCP mode", 8083),
        Way::new("through nginx stream", 8084),
    ];
    for round in 0..scale.rounds(ROUNDS) {
        for turn in 0..ways.len() {
            // Who goes first changes from round to round.
            let index = (round + turn) % ways.len();
            if let Some(way) = ways.get_mut(index) {
                let plan = Plan::new(way.target);
                way.turns.push(Turn::take(&host, plan, EACH)?);
            }
        }
    }
    for way in &ways {
        way.report();
    }
    let [plain, hash, least, haproxy, _stream] = &ways;
    for way in [hash, least] {
        compare(way, plain, 0.98);
        compare(way, haproxy, AIM);
    }
    Ok(())
}

/// Two workers with a listener each, everywhere the same.
fn server(name: &str, port: u16) -> Nginx {
    let listen = format!("0.0.0.0:{port} reuseport");
    Nginx::new(name).listen(&listen).workers(2)
}

fn start_all(host: &Host) -> Result<Vec<Process>> {
    for (service, port) in [("hash", 8081), ("least", 8082)] {
        let line = server(service, port).command(host.directory())?;
        host.upgrade_of(service, "gen1", &line)?;
    }
    let directory = host.directory();
    let behind = "127.0.0.1:8080";
    let lines = [
        server("plain", 8080).command(directory)?,
        Haproxy::new("proxy").forwarding(directory, "0.0.0.0:8083", behind)?,
        nginx::forwarding(directory, "0.0.0.0:8084", behind)?,
    ];
    let processes: Result<Vec<Process>> =
        lines.iter().map(|line| host.start_beside(line)).collect();
    for port in [8080, 8083, 8084] {
        let target = SocketAddr::from(([127, 0, 0, 1], port));
        wait::until_true("it answers", LIMIT, || {
            let asked = Waiting::open(host.netns(), target, 1);
            asked.and_then(Waiting::answers).is_ok()
        })?;
    }
    processes
}

fn compare(way: &Way, other: &Way, aim: f64) {
    let pairs = way.turns.iter().zip(&other.turns);
    let ratio: Sample = pairs.map(|(a, b)| a.rate() / b.rate()).collect();
    against_aim(
        &format!("{} beside {}, round by round", way.name, other.name),
        &ratio.describe(3),
        &format!("at least {aim}"),
        ratio.median() >= aim,
    );
}

impl Way {
    fn new(name: &'static str, port: u16) -> Self {
        Self {
            name,
            target: SocketAddr::from(([127, 0, 0, 1], port)),
            turns: Vec::new(),
        }
    }

    fn report(&self) {
        let rate: Sample = self.turns.iter().map(Turn::rate).collect();
        let ms = |part: f64| -> Sample { self.turns.iter().map(|turn| turn.ms(part)).collect() };
        report::figure(
            &format!("{}: connections per second", self.name),
            rate.describe(0),
        );
        report::figure(
            &format!("{}: p50, p99, p99.9, ms", self.name),
            format!(
                "{:.2}, {:.2}, {:.2}",
                ms(0.5).median(),
                ms(0.99).median(),
                ms(0.999).median()
            ),
        );
    }
}
