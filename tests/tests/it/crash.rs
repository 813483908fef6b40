//! Promise: when the active generation is killed with connections in its accept queue, another generation answers all
//! of them, and new connections are never refused.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{
    cgroups, host::Host, load::Plan, process, report, servers::Kind, wait, waiting::Waiting,
};
use nix::unistd::Pid;

const TARGET: &str = "127.0.0.1:8080";
/// A frozen server ignores its signal; a test that fails ends soon all the same.
const SERVICE: &str = "listen = [\"0.0.0.0:8080\"]\ndrain = { deadline = \"2s\" }";
const WAITING: usize = 100;
const LIMIT: Duration = Duration::from_secs(10);

struct Scene {
    host: Host,
    target: SocketAddr,
}

impl Scene {
    /// `gen1` is active.
    fn new() -> Result<Self> {
        let scene = Self {
            host: Host::with_service(SERVICE)?,
            target: TARGET.parse()?,
        };
        scene.deploy("gen1")?;
        scene.host.promote("gen1")?;
        Ok(scene)
    }

    fn deploy(&self, generation: &str) -> Result<()> {
        let line = Kind::Plain.command(self.host.directory(), generation, self.target.port())?;
        self.host.deploy(generation, &line).map(drop)
    }

    /// Stops the first process of `generation` in its tracks: from now on its accept queue fills.
    fn freeze(&self, generation: &str) -> Result<Pid> {
        let pid = self.host.generation(generation)?.process()?;
        process::freeze(pid)?;
        Ok(pid)
    }

    /// Opens connections that end up in the accept queue of the frozen `generation`.
    fn fill_queue(&self, generation: &str) -> Result<Waiting> {
        let waiting = Waiting::open(self.host.netns(), self.target, WAITING)?;
        let web = self.host.web()?;
        let listeners = &web.generation(generation)?.listeners;
        let queue: u64 = listeners.iter().map(|listener| listener.queue).sum();
        ensure!(
            queue == WAITING as u64,
            "{queue} connections wait in {generation}'s queue, not {WAITING}: {web:#?}"
        );
        Ok(waiting)
    }

    /// Kills every process of the generation at once.
    fn kill(pid: Pid) -> Result<()> {
        cgroups::kill(&cgroups::of(pid)?)
    }

    fn expect_dead(&self, generation: &str) -> Result<()> {
        let dead = self.host.wait_state(generation, &["failed", "stopped"])?;
        ensure!(
            dead.reason.is_some(),
            "{generation} is dead without a reason: {dead:?}"
        );
        Ok(())
    }

    /// `heir` answers what waited for the killed `generation`, and everybody who comes now.
    fn expect_inherits(&self, generation: &str, heir: &str) -> Result<()> {
        let pid = self.freeze(generation)?;
        let waiting = self.fill_queue(generation)?;
        Self::kill(pid)?;
        let answers = waiting.answers()?;
        let by_heir = answers
            .iter()
            .filter(|answer| answer.generation == heir)
            .count();
        ensure!(by_heir == WAITING, "{heir} answered {by_heir} of {WAITING}");
        self.host.expect_answers(self.target, 50, heir)?;
        self.expect_dead(generation)?;
        let steering = self.host.web()?.steering;
        steering.check_balance()?;
        ensure!(
            steering.moved() >= WAITING as u64,
            "fewer than {WAITING} were moved: {steering:?}"
        );
        report::figure(
            &format!("crash: connections in a dead queue answered by {heir}"),
            by_heir,
        );
        Ok(())
    }
}

#[test]
fn a_ready_candidate_inherits_the_queue() -> Result<()> {
    let scene = Scene::new()?;
    scene.deploy("gen2")?;
    scene.host.expect_answers(scene.target, 20, "gen1")?;
    scene.expect_inherits("gen1", "gen2")
}

#[test]
fn the_standby_generation_inherits_the_queue() -> Result<()> {
    let scene = Scene::new()?;
    scene.deploy("gen2")?;
    scene.host.promote("gen2")?;
    scene.host.wait_state("gen1", &["standby"])?;
    scene.expect_inherits("gen2", "gen1")
}

#[test]
fn with_nobody_left_the_queue_is_parked() -> Result<()> {
    let scene = Scene::new()?;
    let pid = scene.freeze("gen1")?;
    let waiting = scene.fill_queue("gen1")?;
    Scene::kill(pid)?;
    let late = Waiting::open(scene.host.netns(), scene.target, 20)?;
    scene.expect_dead("gen1")?;
    wait::until_true("all of them are parked", LIMIT, || {
        scene
            .host
            .web()
            .is_ok_and(|web| web.parked == WAITING as u64 + 20)
    })?;
    waiting.expect_silence()?;
    scene.deploy("gen2")?;
    scene.host.promote("gen2")?;
    let answers = [waiting.answers()?, late.answers()?].concat();
    ensure!(
        answers.iter().all(|answer| answer.generation == "gen2"),
        "{answers:?}"
    );
    report::figure(
        "crash: connections parked and answered later",
        answers.len(),
    );
    Ok(())
}

/// Under load, what the killed server was just answering is lost: at most one request for each client. Nobody is
/// refused, and nobody waits for a packet to be sent again.
#[test]
fn a_kill_under_load_refuses_nobody() -> Result<()> {
    let scene = Scene::new()?;
    scene.deploy("gen2")?;
    let load = scene.host.load(Plan::new(scene.target))?;
    load.wait_more(2_000, LIMIT)?;
    Scene::kill(scene.host.generation("gen1")?.process()?)?;
    load.wait_for("answers of the other", LIMIT, |outcome| {
        outcome.by("gen2") > 2_000
    })?;
    let outcome = load.stop()?;
    report::figure(
        "crash: failed requests of one kill under load (those being answered)",
        outcome.failed,
    );
    report::figure(
        "crash: slowest request over a kill under load, ms",
        outcome.max.as_millis(),
    );
    ensure!(
        outcome.refused == 0,
        "{} were refused: {outcome:#?}",
        outcome.refused
    );
    ensure!(
        outcome.failed <= 32,
        "more failed than were being answered: {outcome:#?}"
    );
    ensure!(
        outcome.slow == 0,
        "{} were slow: {outcome:#?}",
        outcome.slow
    );
    scene.expect_dead("gen1")
}

/// Workers outlive their killed master: they hold the sockets and go on, or another generation takes over.
#[test]
fn a_killed_master_refuses_nobody() -> Result<()> {
    if let Some(reason) = Kind::Nginx.missing() {
        return report::skip("a_killed_master_refuses_nobody", reason);
    }
    let scene = Scene::new()?;
    let nginx = Kind::NginxReuseport.command(scene.host.directory(), "gen2", 8080)?;
    scene.host.upgrade("gen2", &nginx)?;
    let load = scene.host.load(Plan::new(scene.target))?;
    load.wait_more(1_000, LIMIT)?;
    let master = scene.host.generation("gen2")?.process()?;
    nix::sys::signal::kill(master, nix::sys::signal::Signal::SIGKILL)?;
    load.wait_more(1_000, LIMIT)?;
    scene.deploy("gen3")?;
    scene.host.promote("gen3")?;
    load.wait_for("answers of gen3", LIMIT, |outcome| outcome.by("gen3") > 500)?;
    let outcome = load.stop()?;
    ensure!(outcome.refused == 0, "{outcome:#?}");
    ensure!(
        outcome.failed <= 32,
        "more failed than were being answered: {outcome:#?}"
    );
    report::figure(
        "crash: failed requests of a killed nginx master",
        outcome.failed,
    );
    Ok(())
}

/// The process that keeps the parking listeners is killed: the agent sees to it that there are some again.
#[test]
fn a_killed_keeper_is_replaced() -> Result<()> {
    let scene = Scene::new()?;
    let load = scene.host.load(Plan::new(scene.target).workers(8))?;
    load.wait_more(100, LIMIT)?;
    let keeper = scene
        .host
        .keeper()?
        .context("no process keeps the parking listeners")?;
    nix::sys::signal::kill(keeper, nix::sys::signal::Signal::SIGKILL)?;
    wait::until_true("another keeper runs", LIMIT, || {
        scene
            .host
            .keeper()
            .is_ok_and(|found| found.is_some_and(|pid| pid != keeper))
    })?;
    load.wait_more(100, LIMIT)?;
    load.stop()?.expect_none_lost()?;
    Scene::kill(scene.host.generation("gen1")?.process()?)?;
    scene.expect_dead("gen1")?;
    let waiting = Waiting::open(scene.host.netns(), scene.target, 20)?;
    scene.deploy("gen2")?;
    scene.host.promote("gen2")?;
    waiting.expect_by("gen2")?;
    Ok(())
}

/// A dead active generation does not stand in the way of the next rollout.
#[test]
fn a_promote_after_a_crash_works() -> Result<()> {
    let scene = Scene::new()?;
    Scene::kill(scene.host.generation("gen1")?.process()?)?;
    scene.expect_dead("gen1")?;
    scene.deploy("gen2")?;
    scene.host.promote("gen2")?;
    scene.host.expect_answers(scene.target, 20, "gen2")?;
    ensure!(scene.host.web()?.active.as_deref() == Some("gen2"));
    Ok(())
}
