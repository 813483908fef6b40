//! Promise: a promote returns when the former generation is drained. What it has accepted is finished, within the
//! deadline; without connections it stays running for a rollback by one store, as long as `keep` says.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{
    api,
    host::Host,
    load::Plan,
    patience,
    servers::{Kind, Plain},
    wait,
    waiting::Waiting,
};

const LIMIT: Duration = Duration::from_secs(15);

struct Scene {
    host: Host,
    target: SocketAddr,
}

impl Scene {
    /// `first` is active, as `gen1`.
    fn new(keys: &str, first: &Plain) -> Result<Self> {
        let host = Host::with_service(&format!("listen = [\"0.0.0.0:8080\"]\n{keys}"))?;
        host.upgrade("gen1", &first.clone().listen("0.0.0.0:8080").command()?)?;
        Ok(Self {
            host,
            target: "127.0.0.1:8080".parse()?,
        })
    }

    fn deploy(&self, generation: &str) -> Result<()> {
        let line = Kind::Plain.command(self.host.directory(), generation, 8080)?;
        self.host.deploy(generation, &line).map(drop)
    }

    /// Waits until `count` connections of `gen1` are open.
    fn expect_live(&self, count: i64) -> Result<()> {
        wait::until_true(&format!("{count} live connections"), LIMIT, || {
            self.host
                .generation("gen1")
                .is_ok_and(|found| found.connections.live == count)
        })
    }
}

#[test]
fn a_slow_answer_is_finished() -> Result<()> {
    let keys = "drain = { signal_after = \"200ms\", deadline = \"10s\" }";
    let scene = Scene::new(keys, &Plain::new("gen1").option("--delay-ms", 1_500))?;
    scene.deploy("gen2")?;
    let waiting = Waiting::open(scene.host.netns(), scene.target, 20)?;
    scene.expect_live(20)?;
    let promote = scene.host.promote("gen2")?;
    ensure!(
        promote.took >= Duration::from_millis(500),
        "it did not wait\n{}",
        promote.describe()
    );
    // They were answered before the promote returned: the answers lie in the sockets.
    let answers = waiting.answers()?;
    ensure!(
        answers.iter().all(|answer| answer.generation == "gen1"),
        "{answers:?}"
    );
    scene.host.wait_state("gen1", &["stopped", "standby"])?;
    scene.host.expect_answers(scene.target, 20, "gen2")
}

#[test]
fn new_connections_move_at_once_while_old_ones_drain() -> Result<()> {
    let keys = "drain = { signal_after = \"2s\", deadline = \"10s\" }";
    let scene = Scene::new(keys, &Plain::new("gen1"))?;
    scene.deploy("gen2")?;
    let _held = Waiting::silent(scene.host.netns(), scene.target, 5)?;
    scene.expect_live(5)?;
    let promote = scene.host.start_hotlb(&["promote", "gen2"])?;
    let draining = scene.host.wait_state("gen1", &["draining"])?;
    ensure!(draining.connections.live == 5, "{draining:#?}");
    scene.host.expect_answers(scene.target, 50, "gen2")?;
    ensure!(scene.host.web()?.active.as_deref() == Some("gen2"));
    drop(promote);
    Ok(())
}

#[test]
fn the_deadline_ends_what_is_left() -> Result<()> {
    let keys = "drain = { signal_after = \"200ms\", deadline = \"1500ms\" }";
    let scene = Scene::new(keys, &Plain::new("gen1"))?;
    scene.deploy("gen2")?;
    // plain-server waits for the first request of a connection as long as the client does.
    let held = Waiting::silent(scene.host.netns(), scene.target, 5)?;
    scene.expect_live(5)?;
    let load = scene.host.load(Plan::new(scene.target).workers(8))?;
    let promote = scene.host.promote("gen2")?;
    ensure!(
        promote.took >= Duration::from_millis(1_400),
        "too early\n{}",
        promote.describe()
    );
    ensure!(
        promote.took < patience::of(Duration::from_secs(4)),
        "too late\n{}",
        promote.describe()
    );
    ensure!(
        scene.host.generation("gen1")?.state == "stopped",
        "{:#?}",
        scene.host.web()?
    );
    wait::until_true("the held connections end", LIMIT, || held.all_ended())?;
    load.stop()?.expect_none_lost()?;
    // The server's side is closed; a connection is over when the client has closed as well.
    drop(held);
    scene.expect_live(0)
}

#[test]
fn a_drained_generation_stands_by() -> Result<()> {
    let scene = Scene::new("", &Plain::new("gen1"))?;
    let before = scene.host.generation("gen1")?;
    scene.deploy("gen2")?;
    let promote = scene.host.promote("gen2")?;
    ensure!(
        promote.took < patience::of(Duration::from_secs(1)),
        "nothing to drain\n{}",
        promote.describe()
    );
    ensure!(scene.host.generation("gen1")?.state == "standby");
    scene.host.ok(&["rollback"])?;
    let after = scene.host.generation("gen1")?;
    ensure!(
        after.state == "active" && after.pid == before.pid,
        "{before:#?}\n{after:#?}"
    );
    ensure!(scene.host.generation("gen2")?.state == "standby");
    // And forth again, and back again: a rollback is no dead end.
    scene.host.promote("gen2")?;
    scene.host.expect_answers(scene.target, 20, "gen2")?;
    scene.host.ok(&["rollback"])?;
    scene.host.expect_answers(scene.target, 20, "gen1")
}

#[test]
fn keep_ends_the_standby_and_a_rollback_starts_it_again() -> Result<()> {
    let scene = Scene::new("keep = \"500ms\"", &Plain::new("gen1"))?;
    let before = scene.host.generation("gen1")?;
    scene.deploy("gen2")?;
    scene.host.promote("gen2")?;
    scene.host.wait_state("gen1", &["stopped"])?;
    let load = scene.host.load(Plan::new(scene.target).workers(8))?;
    scene.host.ok(&["rollback"])?;
    load.wait_more(100, LIMIT)?;
    load.stop()?.expect_none_lost()?;
    scene.host.expect_answers(scene.target, 20, "gen1")?;
    let after = scene.host.generation("gen1")?;
    ensure!(
        after.state == "active" && after.pid != before.pid,
        "{before:#?}\n{after:#?}"
    );
    Ok(())
}

/// The next promote retires the generation that stood by.
#[test]
fn one_generation_stands_by_at_a_time() -> Result<()> {
    let scene = Scene::new("", &Plain::new("gen1"))?;
    for generation in ["gen2", "gen3"] {
        scene.deploy(generation)?;
        scene.host.promote(generation)?;
    }
    scene.host.wait_state("gen1", &["stopped"])?;
    let web = scene.host.web()?;
    ensure!(
        web.generation("gen2")?.state == "standby" && web.previous.as_deref() == Some("gen2"),
        "{web:#?}"
    );
    Ok(())
}

/// A client of the API sees how many connections are left.
#[test]
fn progress_is_told_meanwhile() -> Result<()> {
    let keys = "drain = { signal_after = \"100ms\", deadline = \"1s\" }";
    let scene = Scene::new(keys, &Plain::new("gen1"))?;
    scene.deploy("gen2")?;
    let _held = Waiting::silent(scene.host.netns(), scene.target, 3)?;
    scene.expect_live(3)?;
    let body = "{\"generation\":\"gen2\"}";
    let answer = api::request(
        &scene.host.socket(),
        "POST",
        "/v1/services/web/promote",
        api::VERSION,
        body,
    )?;
    let lines = answer
        .body
        .lines()
        .map(serde_json::from_str::<serde_json::Value>);
    let lines = lines
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| format!("{answer:?}"))?;
    ensure!(
        lines.iter().any(|line| line["progress"]["remaining"] == 3),
        "{answer:?}"
    );
    ensure!(
        lines.last().is_some_and(|line| line["done"].is_object()),
        "{answer:?}"
    );
    Ok(())
}
