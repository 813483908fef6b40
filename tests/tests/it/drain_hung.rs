//! Promise: who waits in the queue of a server that hangs is answered by the one that replaces it.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use hotlb_tests::{
    host::Host,
    process::freeze,
    report,
    servers::{Kind, Plain},
    wait,
    waiting::Waiting,
};

const LIMIT: Duration = Duration::from_secs(15);
const HUNG_AFTER: Duration = Duration::from_millis(300);
/// What the rest of a promote, and the answers, may take beyond that on a busy machine.
const A_LITTLE: Duration = Duration::from_millis(700);
const QUEUED: usize = 40;

struct Scene {
    host: Host,
    target: SocketAddr,
}

impl Scene {
    /// `gen1` is active, `gen2` ready.
    fn new() -> Result<Self> {
        let host = Host::with_service(
            "listen = [\"0.0.0.0:8080\"]\n\
             drain = { hung_after = \"300ms\", signal_after = \"100ms\", deadline = \"2s\" }",
        )?;
        let first = Plain::new("gen1").listen("0.0.0.0:8080").command()?;
        host.upgrade("gen1", &first)?;
        host.deploy(
            "gen2",
            &Kind::Plain.command(host.directory(), "gen2", 8080)?,
        )?;
        let target = "127.0.0.1:8080".parse()?;
        Ok(Self { host, target })
    }

    fn wait_live(&self, count: i64) -> Result<()> {
        wait::until_true(&format!("{count} live connections"), LIMIT, || {
            self.host
                .generation("gen1")
                .is_ok_and(|found| found.connections.live == count)
        })
    }
}

#[test]
fn the_queue_of_a_hung_server_is_answered_by_the_next() -> Result<()> {
    let scene = Scene::new()?;
    let pid = scene.host.generation("gen1")?.process()?;
    freeze(pid)?;
    let waiting = Waiting::open(scene.host.netns(), scene.target, QUEUED)?;
    scene.wait_live(i64::try_from(QUEUED)?)?;
    let queue: u64 = {
        let hung = scene.host.generation("gen1")?;
        hung.listeners.iter().map(|listener| listener.queue).sum()
    };
    ensure!(queue == QUEUED as u64, "{queue} of {QUEUED} are queued");

    let began = Instant::now();
    let promote = scene.host.start_hotlb(&["promote", "gen2"])?;
    let answers = waiting.answers()?;
    let took = began.elapsed();
    ensure!(answers.iter().all(|answer| answer.generation == "gen2"));
    report::figure(
        "hung server: 40 of its queue answered by the next, after the promote's start, ms",
        took.as_millis(),
    );
    ensure!(
        took >= HUNG_AFTER,
        "moved after {took:?}: it was not hung yet"
    );
    ensure!(took < HUNG_AFTER + A_LITTLE, "moved after {took:?}");
    // It does not heed its signal: the deadline ends it.
    let promote = promote.finish(LIMIT)?.expect_success()?;
    ensure!(promote.stdout.contains("stopped"), "{}", promote.describe());
    let hung = scene.host.generation("gen1")?;
    ensure!(hung.state == "stopped" && hung.pid.is_none(), "{hung:#?}");
    scene.host.expect_answers(scene.target, 20, "gen2")
}

/// What it had accepted cannot be given to another: it ends at the deadline, as the history tells.
#[test]
fn what_a_hung_server_had_accepted_ends_at_the_deadline() -> Result<()> {
    let scene = Scene::new()?;
    let held = Waiting::open_path(scene.host.netns(), scene.target, "/hold?ms=60000", 5)?;
    wait::until_true("its queue is empty", LIMIT, || {
        let found = scene.host.generation("gen1");
        found.is_ok_and(|found| {
            found.connections.live == 5 && found.listeners.iter().all(|l| l.queue == 0)
        })
    })?;
    freeze(scene.host.generation("gen1")?.process()?)?;
    let waiting = Waiting::open(scene.host.netns(), scene.target, QUEUED)?;
    let promote = scene.host.start_hotlb(&["promote", "gen2"])?;
    let answers = waiting.answers()?;
    ensure!(answers.iter().all(|answer| answer.generation == "gen2"));
    held.expect_silence()?;
    let promote = promote.finish(LIMIT)?.expect_success()?;
    ensure!(
        promote.stdout.contains("5 connections cut"),
        "{}",
        promote.describe()
    );
    wait::until_true("the held connections end", LIMIT, || held.all_ended())
}

/// A server that takes its queue, if slowly, is not hung: nothing is moved away from it, and it is kept.
#[test]
fn a_slow_server_is_not_hung() -> Result<()> {
    let scene = Scene::new()?;
    let pid = scene.host.generation("gen1")?.process()?;
    freeze(pid)?;
    let waiting = Waiting::open(scene.host.netns(), scene.target, QUEUED)?;
    scene.wait_live(i64::try_from(QUEUED)?)?;
    let promote = scene.host.start_hotlb(&["promote", "gen2"])?;
    scene.host.wait_state("gen1", &["draining"])?;
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCONT)?;
    let answers = waiting.answers()?;
    ensure!(
        answers.iter().all(|answer| answer.generation == "gen1"),
        "{answers:?}"
    );
    promote.finish(LIMIT)?.expect_success()?;
    ensure!(scene.host.generation("gen1")?.state == "standby");
    Ok(())
}
