//! Promise: the agent is not in the path. Killed with SIGKILL it costs nobody anything; started again it finds its
//! generations, sockets and pins, and goes on managing them.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{
    cgroups, command, host::Host, load::Plan, report, servers::Plain, wait, waiting::Waiting,
};
use nix::sys::signal::{Signal, kill};

const TARGET: &str = "127.0.0.1:8080";
const LIMIT: Duration = Duration::from_secs(10);

fn target() -> Result<SocketAddr> {
    Ok(TARGET.parse()?)
}

/// `gen1` is active.
fn scene() -> Result<Host> {
    let host = Host::with_service("listen = [\"0.0.0.0:8080\"]")?;
    host.deploy_plain("gen1")?;
    host.promote("gen1")?;
    Ok(host)
}

#[test]
fn a_killed_agent_costs_nobody_anything() -> Result<()> {
    let mut host = scene()?;
    let load = host.load(Plan::new(target()?))?;
    load.wait_more(1_000, LIMIT)?;
    let before = host.web()?;
    host.kill_agent()?;
    load.wait_more(2_000, LIMIT)?;
    host.hotlb(&["status"])?
        .expect_code(3)?
        .expect_one_line_error()?;

    host.start_agent()?;
    let after = host.web()?;
    ensure!(after.active.as_deref() == Some("gen1"), "{after:#?}");
    let found = after.generation("gen1")?;
    ensure!(found.state == "active", "{found:#?}");
    ensure!(
        found.pid == before.generation("gen1")?.pid,
        "another process: {found:#?}"
    );
    ensure!(
        found.listeners.iter().all(|listener| listener.steered),
        "{found:#?}"
    );
    ensure!(
        after.epoch >= before.epoch,
        "the epoch went back: {} to {}",
        before.epoch,
        after.epoch
    );
    ensure!(
        after.steering.calls >= before.steering.calls + 2_000,
        "counters were lost: {:?}",
        after.steering
    );

    host.deploy_plain("gen2")?;
    host.promote("gen2")?;
    load.wait_for("answers of gen2", LIMIT, |outcome| {
        outcome.by("gen2") > 1_000
    })?;
    host.ok(&["rollback"])?;
    let outcome = load.stop()?;
    report::figure("agent crash: requests", outcome.requests());
    report::figure("agent crash: failed", outcome.failed);
    outcome.expect_none_lost()
}

/// A generation that was ready but not yet promoted is found too.
#[test]
fn a_ready_candidate_is_found_again() -> Result<()> {
    let mut host = scene()?;
    host.deploy_plain("gen2")?;
    host.kill_agent()?;
    host.start_agent()?;
    let web = host.web()?;
    ensure!(web.generation("gen2")?.state == "ready", "{web:#?}");
    host.promote("gen2")?;
    host.expect_answers(target()?, 20, "gen2")
}

/// Killed in the middle of a deploy: the service is not stuck afterwards, whatever became of the candidate.
#[test]
fn killed_in_a_deploy() -> Result<()> {
    let mut host = scene()?;
    let load = host.load(Plan::new(target()?).workers(8))?;
    let line = Plain::new("gen2")
        .listen("0.0.0.0:8080")
        .option("--listen-after-ms", 1_500)
        .command()?;
    let mut deploy_slowly = vec!["deploy", "--generation", "gen2", "--"];
    deploy_slowly.extend(line.iter().map(String::as_str));
    let slow = host.start_hotlb(&deploy_slowly)?;
    host.wait_state("gen2", &["starting"])?;
    host.kill_agent()?;
    ensure!(
        slow.finish(LIMIT)?.code != 0,
        "the client believes in a deploy nobody finished"
    );
    host.start_agent()?;
    // gen2 may have been ended or may go on; it may not take clients, and the next rollout must go through.
    if host
        .generation("gen2")
        .is_ok_and(|found| !matches!(found.state.as_str(), "failed" | "stopped"))
    {
        host.ok(&["stop", "gen2"])?;
    }
    host.deploy_plain("gen3")?;
    host.promote("gen3")?;
    load.wait_for("answers of gen3", LIMIT, |outcome| outcome.by("gen3") > 100)?;
    let outcome = load.stop()?;
    ensure!(outcome.by("gen2") == 0, "{outcome:#?}");
    outcome.expect_none_lost()
}

/// Killed while the former generation drains: the word has moved, and stays moved.
#[test]
fn killed_in_a_drain() -> Result<()> {
    let mut host = Host::with_service(
        "listen = [\"0.0.0.0:8080\"]\ndrain = { signal_after = \"1s\", deadline = \"2s\" }",
    )?;
    host.deploy_plain("gen1")?;
    host.promote("gen1")?;
    host.deploy_plain("gen2")?;
    let _held = Waiting::silent(host.netns(), target()?, 3)?;
    let promote = host.start_hotlb(&["promote", "gen2"])?;
    host.wait_state("gen1", &["draining"])?;
    host.kill_agent()?;
    drop(promote);
    host.expect_answers(target()?, 20, "gen2")?;
    host.start_agent()?;
    ensure!(
        host.web()?.active.as_deref() == Some("gen2"),
        "{:#?}",
        host.web()?
    );
    host.expect_answers(target()?, 20, "gen2")?;
    // The drain goes on to its end: the held connections do not keep gen1 for ever.
    host.wait_state("gen1", &["stopped", "standby"])?;
    host.deploy_plain("gen3")?;
    host.promote("gen3")?;
    host.expect_answers(target()?, 20, "gen3")
}

#[test]
fn a_generation_that_died_meanwhile_is_noticed() -> Result<()> {
    let mut host = scene()?;
    let pid = host.generation("gen1")?.process()?;
    host.kill_agent()?;
    cgroups::kill(&cgroups::of(pid)?)?;
    host.start_agent()?;
    host.wait_state("gen1", &["failed", "stopped"])?;
    host.deploy_plain("gen2")?;
    host.promote("gen2")?;
    host.expect_answers(target()?, 20, "gen2")
}

/// Agent and keeper both died: the generation still serves, and the next agent puts everything in place again.
#[test]
fn a_keeper_that_died_meanwhile_is_replaced() -> Result<()> {
    let mut host = scene()?;
    let load = host.load(Plan::new(target()?).workers(8))?;
    load.wait_more(100, LIMIT)?;
    host.kill_agent()?;
    let keeper = host
        .keeper()?
        .context("no process keeps the parking listeners")?;
    kill(keeper, Signal::SIGKILL)?;
    load.wait_more(100, LIMIT)?;
    host.start_agent()?;
    ensure!(
        host.keeper()?.is_some(),
        "nobody keeps the parking listeners\n{}",
        host.agent_log()
    );
    host.deploy_plain("gen2")?;
    host.promote("gen2")?;
    load.wait_for("answers of gen2", LIMIT, |outcome| outcome.by("gen2") > 100)?;
    load.stop()?.expect_none_lost()?;
    for generation in ["gen1", "gen2"] {
        cgroups::kill(&cgroups::of(host.generation(generation)?.process()?)?)?;
    }
    let waiting = Waiting::open(host.netns(), target()?, 20)?;
    host.deploy_plain("gen3")?;
    host.promote("gen3")?;
    waiting.expect_by("gen3")?;
    Ok(())
}

/// SIGTERM ends the agent alone: generations and parking listeners go on.
#[test]
fn an_agent_told_to_end_leaves_the_service_running() -> Result<()> {
    let mut host = scene()?;
    let load = host.load(Plan::new(target()?))?;
    load.wait_more(500, LIMIT)?;
    host.agent()?.signal(Signal::SIGTERM)?;
    let status = host.agent()?.wait(LIMIT)?;
    ensure!(
        status.success(),
        "the agent ended with {status}\n{}",
        host.agent_log()
    );
    load.wait_more(500, LIMIT)?;
    host.start_agent()?;
    host.deploy_plain("gen2")?;
    host.promote("gen2")?;
    load.wait_for("answers of gen2", LIMIT, |outcome| outcome.by("gen2") > 500)?;
    load.stop()?.expect_none_lost()
}

#[test]
fn a_second_agent_is_refused() -> Result<()> {
    let host = scene()?;
    let second = command::run(host.command(host.binary()).arg("agent"), LIMIT)?;
    second.expect_code(7)?.expect_stderr(&["agent", "run"])?;
    host.expect_answers(target()?, 20, "gen1")
}

/// Two agents beside each other, each in a namespace of its own, on the same port.
#[test]
fn two_agents_in_two_namespaces_do_not_meet() -> Result<()> {
    let host = scene()?;
    let mut other = host.sibling()?;
    other.write_config("[service.web]\nlisten = [\"0.0.0.0:8080\"]\n")?;
    other.start_agent()?;
    other.deploy_plain("other1")?;
    other.promote("other1")?;
    host.expect_answers(target()?, 20, "gen1")?;
    other.expect_answers(target()?, 20, "other1")
}

#[test]
fn down_leaves_nothing_behind() -> Result<()> {
    let mut host = scene()?;
    host.deploy_plain("gen2")?;
    host.ok(&["down"])?;
    let status = host.agent()?.wait(LIMIT)?;
    ensure!(
        status.success(),
        "the agent ended with {status}\n{}",
        host.agent_log()
    );
    wait::until_true("no process is left", LIMIT, || {
        host.netns().pids().is_ok_and(|pids| pids.is_empty())
    })?;
    ensure!(
        !has_entries(host.bpffs()),
        "pins are left in {}",
        host.bpffs().display()
    );
    ensure!(
        !has_entries_of_cgroups(&host)?,
        "cgroups are left in {}",
        host.cgroup()?.display()
    );
    Ok(())
}

fn has_entries(directory: &std::path::Path) -> bool {
    std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some())
}

fn has_entries_of_cgroups(host: &Host) -> Result<bool> {
    let Ok(entries) = std::fs::read_dir(host.cgroup()?) else {
        return Ok(false);
    };
    Ok(entries.flatten().any(|entry| entry.path().is_dir()))
}
