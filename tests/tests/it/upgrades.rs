//! Promise: 20 promotes and 5 rollbacks of an unmodified server under a closed loop of new connections lose nothing.
//! No request fails, and none is slower than 250 ms. The least requests of all servers together are over 100,000.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{
    host::Host,
    load::{Load, Outcome, Plan},
    patience, report,
    servers::Kind,
};

const TARGET: &str = "127.0.0.1:8080";
const PROMOTES: u32 = 20;
/// A rollback follows every fourth promote: five in all.
const ROLLBACK_EVERY: u32 = 4;
/// New answers to wait for after each move of the traffic, so that every generation serves under load.
const ANSWERS_EACH: u64 = 32;

/// The story of one server, and at least `requests` requests meanwhile.
fn story(kind: Kind, requests: u64) -> Result<()> {
    let requests = patience::requests(requests);
    if let Some(reason) = kind.missing() {
        return report::skip(&format!("upgrades: {}", kind.name()), reason);
    }
    let target: SocketAddr = TARGET.parse()?;
    let signal = match kind {
        Kind::Nginx | Kind::NginxReuseport => "SIGQUIT",
        Kind::Haproxy => "SIGUSR1",
        _ => "SIGTERM",
    };
    let host = Host::with_service(&format!(
        "listen = [\"0.0.0.0:8080\"]\ndrain = {{ signal = \"{signal}\", signal_after = \"2s\", deadline = \"10s\" }}"
    ))?;
    let deploy = |generation: &str| {
        host.deploy(
            generation,
            &kind.command(host.directory(), generation, target.port())?,
        )
    };
    deploy("gen0")?;
    host.promote("gen0")?;

    let load = host.load(Plan::new(target))?;
    let mut moves = Moves::default();
    for number in 1..=PROMOTES {
        let generation = format!("gen{number}");
        deploy(&generation)?;
        moves.promotes.push(host.promote(&generation)?.took);
        expect_served_by(&load, &generation)?;
        if number % ROLLBACK_EVERY == 0 {
            moves.rollbacks.push(host.ok(&["rollback"])?.took);
            expect_served_by(&load, &format!("gen{}", number - 1))?;
        }
    }
    load.wait_for("the least requests", Duration::from_mins(1), |outcome| {
        outcome.requests() >= requests
    })?;
    let outcome = load.stop()?;
    moves.report(kind, &outcome);
    outcome.expect_none_lost()?;
    for number in 0..=PROMOTES {
        let generation = format!("gen{number}");
        ensure!(
            outcome.by(&generation) > 0,
            "{generation} answered nothing: {:?}",
            outcome.answers
        );
    }
    host.web()?.steering.check_balance()
}

/// From now on `generation` answers alone: what the others accepted was answered before the verb returned.
fn expect_served_by(load: &Load, generation: &str) -> Result<()> {
    let before = load.so_far();
    load.wait_more(ANSWERS_EACH, Duration::from_secs(15))
        .with_context(|| format!("after {generation} became active"))?;
    let after = load.so_far();
    // Up to 32 answers may have been on their way to the client when the verb returned.
    let of_others = (after.ok - after.by(generation)) - (before.ok - before.by(generation));
    ensure!(
        of_others <= 32,
        "{of_others} answers by others after {generation} became active: {:?}",
        after.answers
    );
    ensure!(
        after.by(generation) > before.by(generation),
        "{generation} does not answer: {:?}",
        after.answers
    );
    Ok(())
}

/// How long the commands took, the CLI's own start and the drain included.
#[derive(Default)]
struct Moves {
    promotes: Vec<Duration>,
    rollbacks: Vec<Duration>,
}

impl Moves {
    fn report(&self, kind: Kind, outcome: &Outcome) {
        let figure = |what: &str, value: String| {
            report::figure(&format!("upgrades: {}: {what}", kind.name()), value);
        };
        figure("requests", outcome.requests().to_string());
        figure("failed", outcome.failed.to_string());
        figure("slower than 250 ms", outcome.slow.to_string());
        figure("slowest, ms", outcome.max.as_millis().to_string());
        figure(
            "promotes and rollbacks",
            format!("{} and {}", self.promotes.len(), self.rollbacks.len()),
        );
        figure("longest promote command, ms", longest(&self.promotes));
        figure("longest rollback command, ms", longest(&self.rollbacks));
    }
}

fn longest(times: &[Duration]) -> String {
    times
        .iter()
        .max()
        .copied()
        .unwrap_or_default()
        .as_millis()
        .to_string()
}

#[test]
fn nginx() -> Result<()> {
    story(Kind::Nginx, 50_000)
}

#[test]
fn nginx_with_two_reuseport_workers() -> Result<()> {
    story(Kind::NginxReuseport, 20_000)
}

#[test]
fn haproxy() -> Result<()> {
    story(Kind::Haproxy, 20_000)
}

#[test]
fn python_http_server() -> Result<()> {
    story(Kind::Python, 3_000)
}

#[test]
fn node() -> Result<()> {
    story(Kind::Node, 20_000)
}

#[test]
fn plain_server() -> Result<()> {
    story(Kind::Plain, 50_000)
}

/// Kept connections stay where they are while the word moves, and are not cut by the drain of a server that ends them
/// in order.
#[test]
fn kept_connections_of_a_polite_server() -> Result<()> {
    let target: SocketAddr = TARGET.parse()?;
    let host = Host::with_service(
        "listen = [\"0.0.0.0:8080\"]\ndrain = { signal = \"SIGTERM\", signal_after = \"500ms\", deadline = \"10s\" }",
    )?;
    let deploy = |generation: &str| {
        host.deploy(
            generation,
            &Kind::Plain.command(host.directory(), generation, 8080)?,
        )
    };
    deploy("gen1")?;
    host.promote("gen1")?;
    let load = host.load(Plan::new(target).workers(16).keep_alive())?;
    load.wait_more(200, Duration::from_secs(10))?;
    for number in 2..=4 {
        let generation = format!("gen{number}");
        deploy(&generation)?;
        host.promote(&generation)?;
        // The promote returned, so the former generation has no connection left: all 16 have come over.
        expect_served_by(&load, &generation)?;
    }
    let outcome = load.stop()?;
    report::figure("upgrades: kept connections: requests", outcome.requests());
    outcome.expect_none_lost()
}
