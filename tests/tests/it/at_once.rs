//! Promise: verbs that meet do not step on each other. What a later verb made active no earlier one ends; what was
//! stopped is not ready; what goes down leaves nothing.

use std::{fs, net::SocketAddr, process::Command, time::Duration};

use anyhow::{Result, ensure};
use hotlb::{generation::life, sys::cgroup::Cgroup};
use hotlb_tests::{
    cgroups,
    host::Host,
    load::Plan,
    netns::Netns,
    servers::{Kind, Plain},
    wait,
    waiting::Waiting,
};
use tokio::{runtime::Runtime, time::timeout};

const TARGET: &str = "127.0.0.1:8080";
const LIMIT: Duration = Duration::from_secs(15);

fn target() -> Result<SocketAddr> {
    Ok(TARGET.parse()?)
}

fn upgrade(host: &Host, generation: &str) -> Result<()> {
    host.upgrade(
        generation,
        &Kind::Plain.command(host.directory(), generation, 8080)?,
    )
}

/// A candidate that takes a while to listen.
fn slow(generation: &str) -> Result<Vec<String>> {
    let server = Plain::new(generation).listen("0.0.0.0:8080");
    server.option("--listen-after-ms", 1_500).command()
}

#[test]
fn a_rollback_during_stop_park_wins() -> Result<()> {
    let host = Host::with_service(
        "listen = [\"0.0.0.0:8080\"]\ndrain = { signal_after = \"3s\", deadline = \"5s\" }",
    )?;
    upgrade(&host, "gen1")?;
    let held = Waiting::silent(host.netns(), target()?, 2)?;
    let stop = host.start_hotlb(&["stop", "--park", "gen1"])?;
    host.wait_state("gen1", &["draining"])?;
    host.ok(&["rollback"])?;
    // The stop gives up, and says that the generation is active.
    stop.finish(LIMIT)?
        .expect_code(6)?
        .expect_stderr(&["gen1 is active"])?;
    ensure!(host.generation("gen1")?.state == "active");
    host.expect_answers(target()?, 20, "gen1")?;
    drop(held);
    Ok(())
}

#[test]
fn a_candidate_stopped_in_its_deploy_does_not_become_ready() -> Result<()> {
    let host = Host::with_service("listen = [\"0.0.0.0:8080\"]")?;
    upgrade(&host, "gen1")?;
    let line = slow("gen2")?;
    let mut words = vec!["deploy", "--generation", "gen2", "--"];
    words.extend(line.iter().map(String::as_str));
    let deploy = host.start_hotlb(&words)?;
    host.wait_state("gen2", &["starting"])?;
    host.ok(&["stop", "gen2"])?;
    deploy
        .finish(LIMIT)?
        .expect_code(1)?
        .expect_stderr(&["gen2"])?;
    let state = host.generation("gen2")?.state;
    ensure!(matches!(state.as_str(), "failed" | "stopped"), "{state}");
    host.expect_answers(target()?, 20, "gen1")
}

#[test]
fn going_down_during_a_deploy_leaves_no_server() -> Result<()> {
    let host = Host::with_service("listen = [\"0.0.0.0:8080\"]")?;
    let line = slow("gen1")?;
    let mut words = vec!["deploy", "--generation", "gen1", "--"];
    words.extend(line.iter().map(String::as_str));
    let deploy = host.start_hotlb(&words)?;
    host.wait_state("gen1", &["starting"])?;
    host.ok(&["down"])?;
    ensure!(
        deploy.finish(LIMIT)?.code != 0,
        "a deploy into nothing succeeded"
    );
    // The agent ends after it has answered.
    wait::until_true("no process is left", LIMIT, || {
        host.netns().pids().is_ok_and(|left| left.is_empty())
    })?;
    ensure!(!host.cgroup()?.exists(), "the cgroup is left");
    Ok(())
}

/// A stop that comes before the process has entered its cgroup has it end all the same.
#[test]
fn who_is_stopped_as_it_is_executed_does_not_run_on() -> Result<()> {
    let host = Host::with_service("listen = [\"0.0.0.0:8080\"]")?;
    for number in 0..6 {
        let generation = format!("gen{number}");
        let line = Kind::Plain.command(host.directory(), &generation, 8080)?;
        let mut words = vec!["exec", "--generation", &generation, "--"];
        words.extend(line.iter().map(String::as_str));
        let server = host.start_hotlb(&words)?;
        wait::until_true("it is stopped", LIMIT, || {
            let stop = host.hotlb(&["stop", &generation]);
            stop.is_ok_and(|run| run.code == 0)
        })?;
        server.finish(LIMIT)?;
    }
    host.ok(&["down"])?;
    ensure!(!host.cgroup()?.exists(), "the cgroup is left");
    Ok(())
}

/// The kernel holds an event of a cgroup back for 10 ms after another one, and drops it if the cgroup is removed by
/// then: a `stop` or `down` of a server that has just been started waited for its whole deadline.
#[test]
fn an_end_is_noticed_although_its_cgroup_is_gone_with_it() -> Result<()> {
    let netns = Netns::new()?;
    let runtime = Runtime::new()?;
    for _ in 0..20 {
        let cgroup = Cgroup::create(cgroups::mount()?.join(netns.name()))?;
        let mut server = Command::new("sleep").arg("60").spawn()?;
        fs::write(cgroup.path().join("cgroup.procs"), server.id().to_string())?;
        let waiting = cgroup.clone();
        let noticed = runtime.spawn(async move { life::emptied(&waiting).await });
        server.kill()?;
        server.wait()?;
        wait::until_true("the cgroup is removed", LIMIT, || cgroup.remove().is_ok())?;
        runtime.block_on(async { timeout(Duration::from_secs(5), noticed).await })???;
    }
    Ok(())
}

/// The pins of one service are made beside those of the others, and touch none of them.
#[test]
fn a_service_is_added_beside_one_that_runs() -> Result<()> {
    let web = "[service.web]\nlisten = [\"0.0.0.0:8080\"]\n";
    let mut host = Host::with_config(web)?;
    upgrade(&host, "gen1")?;
    let load = host.load(Plan::new(target()?).workers(8))?;
    load.wait_more(100, LIMIT)?;
    host.kill_agent()?;
    host.write_config(&format!(
        "{web}[service.we]\nlisten = [\"0.0.0.0:8081\"]\n[service.web-staging]\nlisten = [\"0.0.0.0:8082\"]\n"
    ))?;
    host.start_agent()?;
    host.kill_agent()?;
    host.start_agent()?;
    let status = host.status()?;
    ensure!(
        status.service("web")?.active.as_deref() == Some("gen1"),
        "{status:#?}"
    );
    load.wait_more(100, LIMIT)?;
    load.stop()?.expect_none_lost()
}

/// Records and pins are one agent's, even when the runtime directory is another.
#[test]
fn a_second_agent_on_the_same_records_is_refused() -> Result<()> {
    let host = Host::with_service("listen = [\"0.0.0.0:8080\"]")?;
    let mut second = host.command(host.binary());
    second
        .arg("agent")
        .env("HOTLB_RUNTIME_DIR", host.directory().join("another"))
        .env("HOTLB_CGROUP", format!("{}-another", host.netns().name()));
    hotlb_tests::command::run(&mut second, LIMIT)?
        .expect_code(7)?
        .expect_stderr(&["another agent", "HOTLB_STATE_DIR"])?;
    upgrade(&host, "gen1")?;
    host.expect_answers(target()?, 20, "gen1")
}
