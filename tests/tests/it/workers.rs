//! Promise: which worker of a generation takes a connection is the operator's choice; the choice by open connections
//! never leads to a busy worker while another is free, and a worker that hangs gets no more clients until it goes on.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use hotlb_tests::{
    host::Host,
    load::Plan,
    report,
    servers::workers,
    status::{Listener, Service},
    wait,
};

const LISTEN: &str = "0.0.0.0:8080";
const LIMIT: Duration = Duration::from_secs(20);
const WORKERS: usize = 4;

struct Scene {
    host: Host,
    target: SocketAddr,
}

impl Scene {
    /// gen1 with four workers is active.
    fn new(keys: &str, arguments: &[&str]) -> Result<Self> {
        let scene = Self::without_server(keys)?;
        scene.upgrade("gen1", arguments)?;
        Ok(scene)
    }

    fn without_server(keys: &str) -> Result<Self> {
        Ok(Self {
            host: Host::with_service(&format!("listen = [\"{LISTEN}\"]\n{keys}"))?,
            target: "127.0.0.1:8080".parse()?,
        })
    }

    fn upgrade(&self, generation: &str, arguments: &[&str]) -> Result<()> {
        let command = workers::command(generation, LISTEN, arguments)?;
        self.host.upgrade(generation, &command)
    }

    fn listeners(&self) -> Result<Vec<Listener>> {
        Ok(self.host.generation("gen1")?.listeners)
    }

    /// Waits until `so_it_is` of the service.
    fn wait_for(&self, what: &str, so_it_is: impl Fn(&Service) -> bool) -> Result<Service> {
        wait::until(what, LIMIT, || {
            self.host.web().ok().filter(|web| so_it_is(web))
        })
    }

    /// Open connections by listener, emptiest first.
    fn open(&self) -> Result<Vec<u64>> {
        let listeners = self.listeners()?;
        let mut open: Vec<u64> = listeners.iter().filter_map(|l| l.open).collect();
        open.sort_unstable();
        Ok(open)
    }

    fn connect(&self) -> Result<TcpStream> {
        Ok(self
            .host
            .netns()
            .run(|| TcpStream::connect(self.target))??)
    }
}

fn hanging(web: &Service) -> usize {
    let listeners = web.generations.iter().flat_map(|g| &g.listeners);
    listeners.filter(|l| l.hangs_for_ms.is_some()).count()
}

/// How long each of `count` requests took, each made when it is `due`; the longest.
fn slowest(scene: &Scene, count: usize, due: impl Fn() -> bool) -> Result<Duration> {
    let mut slowest = Duration::ZERO;
    for _ in 0..count {
        wait::until_true("the next request is due", LIMIT, &due)?;
        let began = Instant::now();
        let answer = scene.host.ask(scene.target)?;
        ensure!(answer == "gen1", "answered by {answer}");
        slowest = slowest.max(began.elapsed());
    }
    Ok(slowest)
}

#[test]
fn a_worker_that_hangs_leaves_the_choice_and_comes_back() -> Result<()> {
    let scene = Scene::without_server("hung_worker_after = \"1s\"\n")?;
    let hang = scene.host.directory().join("hang");
    scene.upgrade("gen1", &["--hang", &hang.display().to_string()])?;
    let load = scene.host.load(Plan::new(scene.target).workers(16))?;
    load.wait_more(500, LIMIT)?;

    File::create(&hang)?;
    let hung = scene.wait_for("one worker hangs", |web| hanging(web) == 1)?;
    let (out, within): (Vec<_>, Vec<_>) = scene
        .listeners()?
        .into_iter()
        .partition(|l| l.hangs_for_ms.is_some());
    ensure!(out.iter().all(|l| !l.steered && l.queue > 0), "{out:#?}");
    ensure!(within.iter().all(|l| l.steered), "{within:#?}");
    ensure!(
        hung.warnings
            .iter()
            .any(|w| w.starts_with("1 of gen1's 4 listeners have stopped accepting")),
        "{:#?}",
        hung.warnings
    );
    // Who comes now is served by the others at once, by whichever the hash names.
    let slowest = slowest(&scene, 200, || true)?;
    ensure!(
        slowest < Duration::from_secs(1),
        "one waited for {slowest:?}"
    );
    report::figure(
        "beside a worker that hangs: slowest of 200",
        format!("{slowest:?}"),
    );

    fs::remove_file(&hang)?;
    let back = |web: &Service| {
        let mut listeners = web.generations.iter().flat_map(|g| &g.listeners);
        hanging(web) == 0 && listeners.all(|l| l.steered)
    };
    scene.wait_for("the worker is back", back)?;
    load.wait_more(2000, LIMIT)?;
    load.stop()?.expect_none_failed()
}

#[test]
fn a_server_that_hangs_as_a_whole_stays_in_the_choice() -> Result<()> {
    let scene = Scene::new(
        "hung_worker_after = \"1s\"\n",
        &["--workers", "1", "--slow-one-of", "1", "--slow-ms", "4000"],
    )?;
    let (_first, _second) = (scene.connect()?, scene.connect()?);
    scene.wait_for("somebody waits", |web| {
        web.generations
            .iter()
            .any(|g| g.listeners.iter().any(|l| l.queue > 0))
    })?;
    // It is looked at once a second.
    let epoch = Instant::now();
    scene.wait_for("three looks", |_web| {
        epoch.elapsed() > Duration::from_secs(3)
    })?;
    let listeners = scene.listeners()?;
    ensure!(
        listeners
            .iter()
            .all(|l| l.steered && l.hangs_for_ms.is_none()),
        "{listeners:#?}"
    );
    Ok(())
}

#[test]
fn least_finds_the_free_worker() -> Result<()> {
    let scene = Scene::new("workers = \"least\"\n", &[])?;
    ensure!(scene.open()? == [0; WORKERS], "{:?}", scene.open()?);
    // Each of these workers waits for a request that does not come.
    let mut busy = Vec::new();
    for count in 1..WORKERS {
        busy.push(scene.connect()?);
        wait::until_true("the connection is counted", LIMIT, || {
            scene
                .open()
                .is_ok_and(|open| open.iter().sum::<u64>() == count as u64)
        })?;
    }
    ensure!(scene.open()? == [0, 1, 1, 1], "{:?}", scene.open()?);
    // Until the fourth has closed its side of the last one it is as busy as the others.
    let is_free = || scene.open().is_ok_and(|open| open == [0, 1, 1, 1]);
    let slowest = slowest(&scene, 200, is_free)?;
    ensure!(
        slowest < Duration::from_secs(1),
        "one waited for {slowest:?}"
    );
    report::figure(
        "with one free worker of four: slowest of 200",
        format!("{slowest:?}"),
    );
    drop(busy);
    wait::until_true("nothing is open", LIMIT, || {
        scene.open().is_ok_and(|open| open == [0; WORKERS])
    })
}

#[test]
fn upgrades_lose_nobody_whatever_the_choice() -> Result<()> {
    for choice in ["least", "cpu", "auto"] {
        let scene = Scene::new(&format!("workers = \"{choice}\"\n"), &[])?;
        let load = scene.host.load(Plan::new(scene.target))?;
        for number in 2..=6 {
            load.wait_more(500, LIMIT)?;
            scene.upgrade(&format!("gen{number}"), &[])?;
        }
        load.wait_more(500, LIMIT)?;
        let outcome = load.stop()?;
        outcome.expect_none_lost()?;
        report::figure(
            &format!("workers = {choice}: requests over 5 upgrades, none lost"),
            outcome.requests(),
        );
    }
    Ok(())
}

#[test]
fn auto_chooses_by_open_connections_once_clients_wait_needlessly() -> Result<()> {
    let scene = Scene::new(
        "workers = \"auto\"\n",
        &["--slow-one-of", "20", "--slow-ms", "100"],
    )?;
    let before = scene.host.web()?.workers;
    ensure!(
        before.configured == "auto" && before.now == "hash",
        "{before:?}"
    );
    ensure!(scene.open()?.is_empty(), "counted although nobody asks");
    let load = scene.host.load(Plan::new(scene.target).workers(8))?;
    scene.wait_for("it chooses by open connections", |web| {
        web.workers.now == "least"
    })?;
    wait::until_true("they are counted", LIMIT, || {
        scene.open().is_ok_and(|open| open.len() == WORKERS)
    })?;
    load.wait_more(500, LIMIT)?;
    load.stop()?.expect_none_failed()
}
