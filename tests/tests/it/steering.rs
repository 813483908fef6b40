//! Promise: every choice is the program's and is counted. The counters prove it, not only the answers: the kernel's own
//! hash would also reach a server.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Result, ensure};
use hotlb_tests::{
    host::Host,
    load::Plan,
    report,
    servers::Kind,
    status::{Service, Steering},
};

const COUNT: usize = 200;
const LIMIT: Duration = Duration::from_secs(15);

struct Scene {
    host: Host,
    target: SocketAddr,
}

impl Scene {
    fn new() -> Result<Self> {
        let host =
            Host::with_service("listen = [\"0.0.0.0:8080\"]\nhealth = { http = \"/healthz\" }")?;
        Ok(Self {
            host,
            target: "127.0.0.1:8080".parse()?,
        })
    }

    fn deploy(&self, generation: &str) -> Result<()> {
        self.host
            .deploy(
                generation,
                &Kind::Plain.command(self.host.directory(), generation, 8080)?,
            )
            .map(drop)
    }

    fn web(&self) -> Result<Service> {
        let web = self.host.web()?;
        web.steering.check_balance()?;
        Ok(web)
    }

    /// [`COUNT`] new connections are answered by `generation`, and left the program by the exit `active` alone.
    fn expect_active(&self, generation: &str) -> Result<()> {
        let before = self.web()?;
        self.host.expect_answers(self.target, COUNT, generation)?;
        let after = self.web()?;
        for exit in after.steering.exits.keys().filter(|exit| *exit != "ticket") {
            let expected = if exit == "active" { COUNT as u64 } else { 0 };
            let count = more(&before.steering, &after.steering, exit)?;
            ensure!(
                count == expected,
                "{count} left by {exit}: {:?} to {:?}",
                before.steering,
                after.steering
            );
        }
        ensure!(
            after.steering.moved() == before.steering.moved(),
            "some were moved: {:?}",
            after.steering
        );
        let opened =
            |web: &Service| Ok::<_, anyhow::Error>(web.generation(generation)?.connections.opened);
        ensure!(
            opened(&after)? - opened(&before)? >= COUNT as u64,
            "{generation} opened too few: {after:#?}"
        );
        Ok(())
    }
}

fn more(before: &Steering, after: &Steering, exit: &str) -> Result<u64> {
    Ok(after.exit(exit)? - before.exit(exit)?)
}

#[test]
fn every_new_connection_is_counted_once() -> Result<()> {
    let scene = Scene::new()?;
    scene.deploy("gen1")?;
    scene.host.promote("gen1")?;
    scene.expect_active("gen1")?;
    scene.deploy("gen2")?;
    scene.expect_active("gen1")?;
    scene.host.promote("gen2")?;
    scene.expect_active("gen2")?;
    scene.host.ok(&["rollback"])?;
    scene.expect_active("gen1")
}

/// Before a candidate is promoted its probes, and nothing else, reach it.
#[test]
fn probes_reach_the_candidate_by_ticket() -> Result<()> {
    let scene = Scene::new()?;
    scene.deploy("gen1")?;
    scene.host.promote("gen1")?;
    let load = scene.host.load(Plan::new(scene.target).workers(8))?;
    load.wait_more(100, LIMIT)?;
    let before = scene.web()?;
    scene.deploy("gen2")?;
    load.wait_more(500, LIMIT)?;
    let outcome = load.stop()?;
    let after = scene.web()?;
    outcome.expect_none_lost()?;
    ensure!(
        outcome.by("gen2") == 0,
        "clients reached the candidate: {:?}",
        outcome.answers
    );
    let tickets = more(&before.steering, &after.steering, "ticket")?;
    ensure!(
        tickets >= 1,
        "no probe went by ticket: {:?}",
        after.steering
    );
    ensure!(
        more(&before.steering, &after.steering, "candidate")? == 0,
        "{:?}",
        after.steering
    );
    let opened = after.generation("gen2")?.connections.opened;
    ensure!(
        opened >= 1 && opened <= tickets,
        "{opened} connections to the candidate, {tickets} tickets"
    );
    report::figure("steering: probes by ticket for one deploy", tickets);
    Ok(())
}

/// What is opened is closed: after the load no generation has a connection left over, and nothing is lost in between.
#[test]
fn opened_and_closed_agree() -> Result<()> {
    let scene = Scene::new()?;
    scene.deploy("gen1")?;
    scene.host.promote("gen1")?;
    let load = scene
        .host
        .load(Plan::new(scene.target).max_requests(2_000))?;
    load.wait_more(1_000, LIMIT)?;
    scene.deploy("gen2")?;
    scene.host.promote("gen2")?;
    load.wait_for("2,000 answers", LIMIT, |outcome| outcome.ok == 2_000)?;
    let outcome = load.stop()?;
    let web = scene.web()?;
    let tickets = web.steering.exit("ticket")?;
    let mut opened = 0;
    for name in ["gen1", "gen2"] {
        let connections = &web.generation(name)?.connections;
        ensure!(connections.live == 0, "{name}: {connections:?}");
        ensure!(
            connections.opened == connections.closed + connections.aborted,
            "{name}: {connections:?}"
        );
        ensure!(
            connections.opened >= outcome.by(name),
            "{name} answered more than it opened: {connections:?}"
        );
        opened += connections.opened;
    }
    ensure!(
        opened == 2_000 + tickets,
        "{opened} connections, 2000 requests, {tickets} tickets: {web:#?}"
    );
    Ok(())
}
