//! Promise: a killed keeper is started again, and clients can be parked again.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result};
use hotlb_tests::{host::Host, process, servers::Kind, wait, waiting::Waiting};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const TARGET: &str = "127.0.0.1:8080";
const LIMIT: Duration = Duration::from_secs(10);

fn keeper(host: &Host) -> Result<Option<Pid>> {
    let file = host.cgroup()?.join("web/parking/cgroup.procs");
    let pids = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    Ok(pids
        .lines()
        .find_map(|pid| pid.parse().ok())
        .map(process::pid_from))
}

/// Kills the keeper and waits for its successor.
fn replace_keeper(host: &Host) -> Result<()> {
    let former = keeper(host)?.context("a keeper runs")?;
    kill(former, Signal::SIGKILL)?;
    wait::until_true("another keeper runs", LIMIT, || {
        keeper(host).is_ok_and(|now| now.is_some_and(|now| now != former))
    })
}

#[test]
fn a_killed_keeper_is_replaced_and_parks_again() -> Result<()> {
    let target: SocketAddr = TARGET.parse()?;
    let host = Host::with_service("listen = [\"0.0.0.0:8080\"]")?;
    replace_keeper(&host)?;
    wait::until_true("a client is parked", LIMIT, || {
        Waiting::open(host.netns(), target, 1).is_ok()
    })?;
    let clients = Waiting::open(host.netns(), target, 5)?;
    let server = Kind::Plain.command(host.directory(), "gen1", 8080)?;
    host.upgrade("gen1", &server)?;
    for answer in clients.answers()? {
        anyhow::ensure!(
            answer.generation == "gen1",
            "answered by {}",
            answer.generation
        );
    }
    Ok(())
}

#[test]
fn a_killed_keeper_is_replaced_beside_a_running_generation() -> Result<()> {
    let target: SocketAddr = TARGET.parse()?;
    let host = Host::with_service("listen = [\"0.0.0.0:8080\"]")?;
    let server = |name: &str| Kind::Plain.command(host.directory(), name, 8080);
    host.upgrade("gen1", &server("gen1")?)?;
    replace_keeper(&host)?;
    host.expect_answers(target, 20, "gen1")?;
    host.upgrade("gen2", &server("gen2")?)?;
    host.expect_answers(target, 20, "gen2")?;
    host.web()?.steering.check_balance()
}
