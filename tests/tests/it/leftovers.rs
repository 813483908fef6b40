//! Promise: what is left at a drain's deadline is treated as `leftovers` says, and connections that are old by then may
//! stay until `long_lived` says otherwise, whether the server's signal lets its clients finish or cuts them.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{
    failure::Failure,
    held::{Ending, Held},
    host::Host,
    load::Plan,
    report,
    servers::{Kind, Plain},
    status::Drain,
    wait,
};

const LISTEN: &str = "0.0.0.0:8080";
const TARGET: &str = "127.0.0.1:8080";
const LIMIT: Duration = Duration::from_secs(15);
/// How far from its deadline a connection may be cut, seen by its client beside other tests.
const TOLERANCE: Duration = Duration::from_millis(400);

struct Scene {
    host: Host,
    target: SocketAddr,
}

impl Scene {
    /// `gen1` is active, `gen2` ready.
    fn new(drain: &str) -> Result<Self> {
        let target: SocketAddr = TARGET.parse()?;
        let host = Host::with_service(&format!(
            "listen = [\"{LISTEN}\"]\ndrain = {{ polite = \"off\", {drain} }}\n"
        ))?;
        let first = Plain::new("gen1").listen(LISTEN);
        host.upgrade("gen1", &first.command()?)?;
        let second = Kind::Plain.command(host.directory(), "gen2", target.port())?;
        host.deploy("gen2", &second)?;
        Ok(Self { host, target })
    }

    /// One connection for each of these lengths of its answer, in milliseconds.
    fn hold(&self, lengths: &[u64]) -> Result<Held> {
        let lengths = lengths.iter().map(|&ms| Duration::from_millis(ms));
        Held::open(self.host.netns(), self.target, lengths.collect())
    }

    /// Moves the traffic, and says when.
    fn promote(&self) -> Result<Instant> {
        self.host.ok(&["promote", "gen2", "--no-wait"])?;
        Ok(Instant::now())
    }

    /// What `status` says of the drain of `gen1` once it is in `step`.
    fn drain_in(&self, step: &str) -> Result<Drain> {
        wait::until(&format!("gen1 is in {step}"), LIMIT, || {
            let drain = self.host.generation("gen1").ok()?.drain?;
            (drain.step == step).then_some(drain)
        })
    }
}

fn only(endings: Vec<Ending>) -> Result<Ending> {
    ensure!(endings.len() == 1, "{endings:?}");
    endings.into_iter().next().context("none")
}

/// Fails unless the connection was cut about `due` after `began`.
fn expect_cut(ending: &Ending, began: Instant, due: Duration) -> Result<()> {
    let after = ending.ended.duration_since(began);
    ensure!(ending.result.is_err(), "it got its answer: {ending:?}");
    ensure!(
        after + TOLERANCE > due && after < due + TOLERANCE,
        "cut {after:?} after the promote, due at {due:?}"
    );
    Ok(())
}

#[test]
fn kept_ones_end_by_themselves() -> Result<()> {
    let scene = Scene::new("signal_after = \"100ms\", deadline = \"500ms\", leftovers = \"keep\"")?;
    let held = scene.hold(&[3_000])?;
    let began = scene.promote()?;
    let drain = scene.drain_in("long_lived")?;
    ensure!(drain.left == 1 && drain.deadline_in_ms == 0, "{drain:?}");
    let ending = only(held.finish()?)?;
    ensure!(ending.result.is_ok(), "{ending:?}");
    ensure!(ending.ended.duration_since(began) > Duration::from_secs(2));
    let gone = scene.host.wait_state("gen1", &["stopped"])?;
    ensure!(gone.reason.is_none(), "{gone:?}");
    Ok(())
}

#[test]
fn destroyed_ones_see_a_reset() -> Result<()> {
    let scene = Scene::new("deadline = \"1s\", leftovers = \"destroy\"")?;
    let held = scene.hold(&[20_000])?;
    let began = scene.promote()?;
    let ending = only(held.finish()?)?;
    expect_cut(&ending, began, Duration::from_secs(1))?;
    let reset = matches!(ending.result, Err(Failure::Reset { received: 0 }));
    ensure!(reset, "{ending:?}");
    let gone = scene.host.wait_state("gen1", &["stopped"])?;
    let reason = gone.reason.unwrap_or_default();
    ensure!(reason.contains("1 connections cut"), "{reason}");
    Ok(())
}

#[test]
fn closed_ones_see_an_end() -> Result<()> {
    let scene = Scene::new("deadline = \"1s\", leftovers = \"close\"")?;
    let held = scene.hold(&[20_000])?;
    let began = scene.promote()?;
    let ending = only(held.finish()?)?;
    expect_cut(&ending, began, Duration::from_secs(1))?;
    let closed = matches!(ending.result, Err(Failure::Closed { received: 0 }));
    ensure!(closed, "{ending:?}");
    Ok(())
}

/// An old connection and a young one: the young one is cut at the deadline, the old one at its own.
fn old_ones_stay(signal: &str) -> Result<()> {
    let scene = Scene::new(&format!(
        "deadline = \"1s\", {signal} long_lived = {{ after = \"2500ms\", deadline = \"3s\" }}"
    ))?;
    let old = scene.hold(&[30_000])?;
    let opened = Instant::now();
    wait::until_true("it is old", LIMIT, || {
        opened.elapsed() > Duration::from_secs(2)
    })?;
    let young = scene.hold(&[30_000])?;
    let began = scene.promote()?;
    let drain = scene.drain_in("long_lived")?;
    ensure!(drain.left == 1, "{drain:?}");
    let to_deadline = Duration::from_millis(drain.deadline_in_ms);
    ensure!(
        to_deadline > Duration::from_secs(1) && to_deadline <= Duration::from_secs(2),
        "{drain:?}"
    );
    expect_cut(&only(young.finish()?)?, began, Duration::from_secs(1))?;
    expect_cut(&only(old.finish()?)?, began, Duration::from_secs(3))?;
    let gone = scene.host.wait_state("gen1", &["stopped"])?;
    let reason = gone.reason.unwrap_or_default();
    ensure!(reason.contains("2 connections cut"), "{reason}");
    Ok(())
}

#[test]
fn old_connections_stay_beyond_the_deadline() -> Result<()> {
    old_ones_stay("")
}

#[test]
fn old_connections_of_a_server_whose_signal_cuts_stay_too() -> Result<()> {
    // SIGKILL leaves nobody time to finish.
    old_ones_stay("signal = \"KILL\",")
}

#[test]
fn a_deadline_of_zero_cuts_what_is_open_and_nothing_else() -> Result<()> {
    let scene = Scene::new("signal_after = \"0s\", deadline = \"0s\"")?;
    let held = scene.hold(&[20_000; 7])?;
    let load = scene.host.load(Plan::new(scene.target))?;
    load.wait_more(200, LIMIT)?;
    let began = scene.promote()?;
    let endings = held.finish()?;
    scene.host.wait_state("gen1", &["stopped"])?;
    load.wait_more(200, LIMIT)?;
    let outcome = load.stop()?;
    for ending in &endings {
        expect_cut(ending, began, Duration::ZERO)?;
    }
    ensure!(outcome.refused == 0, "{outcome:?}");
    let told = scene.host.generation("gen1")?.reason.unwrap_or_default();
    let cut = outcome.failed + endings.len() as u64;
    report::figure("deadline zero: cut, as the clients count", cut);
    report::figure("deadline zero: told", &told);
    let listed = format!("{cut} connections cut");
    ensure!(
        told.contains(&listed),
        "{told}, but {listed} by the clients"
    );
    Ok(())
}
