//! Which of four workers takes a connection: the kernel's hash, the one with fewer connections, or whoever is free.

use std::net::SocketAddr;

use anyhow::Result;
use hotlb_tests::{host::Host, load::Plan, report, servers::workers};

use crate::{
    Scale,
    sample::{Sample, against_aim},
    turn::Turn,
};

const ROUNDS: usize = 10;
/// Requests a turn.
const EACH: u64 = 20_000;
const CLIENTS: usize = 32;

/// One way to serve: a service of its own.
struct Way {
    name: &'static str,
    port: u16,
    arguments: &'static [&'static str],
    rates: Vec<f64>,
    p99: Vec<f64>,
    p999: Vec<f64>,
}

const SERVICES: &str = "\
[service.hash]\nlisten = [\"0.0.0.0:8081\"]\nworkers = \"hash\"\n\
[service.least]\nlisten = [\"0.0.0.0:8082\"]\nworkers = \"least\"\n\
[service.auto]\nlisten = [\"0.0.0.0:8083\"]\nworkers = \"auto\"\n\
[service.shared]\nlisten = [\"0.0.0.0:8084\"]\n";

pub(crate) fn measure(scale: Scale) -> Result<()> {
    println!("\n2 % of the requests wait for 20 ms:");
    let [hash, least, auto, shared] = turns(scale, &["--slow-one-of", "50"])?;
    let tail = least.p999() / shared.p999();
    against_aim(
        "least: p99.9 beside the shared listener's",
        &format!("{tail:.2}"),
        "at most 1.25",
        tail <= 1.25,
    );
    let rate = least.rate() / shared.rate();
    against_aim(
        "least: requests per second beside the shared listener's",
        &format!("{rate:.2}"),
        "at least 0.90",
        rate >= 0.9,
    );
    report::figure(
        "least: requests per second beside hash's",
        format!("{:.2}", least.rate() / hash.rate()),
    );
    report::figure(
        "auto: requests per second beside least's",
        format!("{:.2}", auto.rate() / least.rate()),
    );
    println!("\nAll requests are cheap:");
    let [hash, least, auto, _shared] = turns(scale, &[])?;
    let rate = least.rate() / hash.rate();
    against_aim(
        "least: requests per second beside hash's",
        &format!("{rate:.3}"),
        "at least 0.95",
        rate >= 0.95,
    );
    report::figure(
        "auto: requests per second beside hash's",
        format!("{:.3}", auto.rate() / hash.rate()),
    );
    Ok(())
}

fn turns(scale: Scale, arguments: &[&str]) -> Result<[Way; 4]> {
    let host = Host::with_config(SERVICES)?;
    let mut ways = [
        Way::new("hash", 8081, &[]),
        Way::new("least", 8082, &[]),
        Way::new("auto", 8083, &[]),
        Way::new("shared", 8084, &["--shared"]),
    ];
    for way in &ways {
        let own = [way.arguments, arguments].concat();
        let listen = format!("0.0.0.0:{}", way.port);
        let line = workers::command("gen1", &listen, &own)?;
        host.upgrade_of(way.name, "gen1", &line)?;
    }
    for round in 0..scale.rounds(ROUNDS) {
        for turn in 0..ways.len() {
            // Who goes first changes from round to round.
            let index = (round + turn) % ways.len();
            if let Some(way) = ways.get_mut(index) {
                way.turn(&host)?;
            }
        }
    }
    for way in &ways {
        way.report();
    }
    Ok(ways)
}

impl Way {
    fn new(name: &'static str, port: u16, arguments: &'static [&'static str]) -> Self {
        Self {
            name,
            port,
            arguments,
            rates: Vec::new(),
            p99: Vec::new(),
            p999: Vec::new(),
        }
    }

    fn turn(&mut self, host: &Host) -> Result<()> {
        let target = SocketAddr::from(([127, 0, 0, 1], self.port));
        let plan = Plan::new(target).workers(CLIENTS);
        let turn = Turn::take(host, plan, EACH)?;
        self.rates.push(turn.rate());
        self.p99.push(turn.ms(0.99));
        self.p999.push(turn.ms(0.999));
        Ok(())
    }

    fn report(&self) {
        let describe =
            |values: &Vec<f64>, digits| values.iter().copied().collect::<Sample>().describe(digits);
        let name = self.name;
        report::figure(
            &format!("{name}: requests per second"),
            describe(&self.rates, 0),
        );
        report::figure(&format!("{name}: p99, ms"), describe(&self.p99, 1));
        report::figure(&format!("{name}: p99.9, ms"), describe(&self.p999, 1));
    }

    fn rate(&self) -> f64 {
        self.rates.iter().copied().collect::<Sample>().median()
    }

    fn p999(&self) -> f64 {
        self.p999.iter().copied().collect::<Sample>().median()
    }
}
