//! Promise: an upgrade of the agent leaves no rollout behind. One in its bake or drain goes on in whoever is in charge
//! then, once and to one end; in any other phase the agent is not upgraded.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt as _, time::Duration};

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{
    adoption, cgroups,
    host::Host,
    load::Plan,
    report,
    servers::{Kind, nginx},
    wait,
    waiting::Waiting,
};
use serde_json::Value;

const TARGET: &str = "127.0.0.1:8080";
const LIMIT: Duration = Duration::from_secs(20);

fn target() -> Result<SocketAddr> {
    Ok(TARGET.parse()?)
}

/// `gen1` is active.
fn scene(keys: &str) -> Result<Host> {
    let host = Host::with_service(&format!("listen = [\"0.0.0.0:8080\"]\n{keys}"))?;
    host.upgrade("gen1", &server(&host, "gen1")?)?;
    Ok(host)
}

fn server(host: &Host, generation: &str) -> Result<Vec<String>> {
    Kind::Plain.command(host.directory(), generation, 8080)
}

/// `hotlb upgrade` to `gen2` with these options; returns once its phase is `phase`.
fn upgrading(host: &Host, options: &[&str], phase: &str) -> Result<hotlb_tests::command::Running> {
    let server = server(host, "gen2")?;
    let running = host.start_upgrade("gen2", options, &server)?;
    wait::until_true(&format!("the rollout is in {phase}"), LIMIT, || {
        rollout(host, "phase").is_ok_and(|found| found == phase)
    })?;
    Ok(running)
}

/// A field of the rollout that `status` shows; empty where there is none.
fn rollout(host: &Host, field: &str) -> Result<String> {
    let status = json(host, &["status"])?;
    let found = status.pointer(&format!("/services/0/rollout/{field}"));
    Ok(found.and_then(Value::as_str).unwrap_or_default().to_owned())
}

fn json(host: &Host, words: &[&str]) -> Result<Value> {
    let run = host.ok(&[words, &["--output", "json"]].concat())?;
    Ok(serde_json::from_str(&run.stdout)?)
}

/// How often each phase of the rollout was entered, in order, and its outcome.
fn told(host: &Host, id: &str) -> Result<(Vec<String>, String)> {
    let told = json(host, &["history", "show", id])?;
    let entries = told.get("entries").and_then(Value::as_array);
    let phases = entries
        .context("no entries")?
        .iter()
        .filter_map(|entry| entry.pointer("/record/phase")?.as_str())
        .map(str::to_owned)
        .collect();
    let outcome = told.get("outcome").and_then(Value::as_str);
    Ok((phases, outcome.unwrap_or_default().to_owned()))
}

/// Waits until the rollout has ended, and says how.
fn ended(host: &Host, id: &str) -> Result<(Vec<String>, String)> {
    wait::until("the rollout has ended", LIMIT, || {
        let (phases, outcome) = told(host, id).ok()?;
        (!outcome.is_empty()).then_some((phases, outcome))
    })
}

fn expect_active(host: &Host, generation: &str) -> Result<()> {
    let web = host.web()?;
    ensure!(web.active.as_deref() == Some(generation), "{web:#?}");
    host.expect_answers(target()?, 20, generation)
}

#[test]
fn a_bake_goes_on_in_the_successor() -> Result<()> {
    let host = scene("")?;
    let load = host.load(Plan::new(target()?))?;
    let waits = upgrading(&host, &["--bake", "6s"], "bake")?;
    let id = rollout(&host, "id")?;
    for _ in 0..3 {
        host.ok(&["agent", "upgrade"])?;
        ensure!(rollout(&host, "phase")? == "bake", "{}", host.agent_log());
        ensure!(rollout(&host, "id")? == id, "it is another rollout");
        ensure!(host.generation("gen1")?.state == "draining");
    }
    let answer = waits.finish(LIMIT)?.expect_success()?;
    ensure!(
        answer.stdout.contains("gen2 is active") && answer.stdout.contains("upgraded meanwhile"),
        "{}",
        answer.describe()
    );
    let (phases, outcome) = ended(&host, &id)?;
    ensure!(outcome == "done", "{outcome}: {phases:?}");
    ensure!(
        phases.last().is_some_and(|last| last == "drain"),
        "{phases:?}"
    );
    ensure!(
        phases.iter().filter(|phase| *phase == "drain").count() == 1,
        "{phases:?}"
    );
    expect_active(&host, "gen2")?;
    host.wait_state("gen1", &["standby"])?;
    load.stop()?.expect_none_lost()
}

#[test]
fn a_candidate_that_dies_in_the_successor_s_bake_is_rolled_back() -> Result<()> {
    let host = scene("")?;
    upgrading(&host, &["--bake", "60s", "--no-wait"], "bake")?
        .finish(LIMIT)?
        .expect_success()?;
    let id = rollout(&host, "id")?;
    host.ok(&["agent", "upgrade"])?;
    let pid = host.generation("gen2")?.process()?;
    cgroups::kill(&cgroups::of(pid)?)?;
    let (phases, outcome) = ended(&host, &id)?;
    ensure!(outcome == "rolled_back", "{outcome}: {phases:?}");
    expect_active(&host, "gen1")
}

#[test]
fn a_drain_s_rollout_ends_in_the_successor() -> Result<()> {
    let host = scene("drain = { signal_after = \"60s\", deadline = \"60s\" }\n")?;
    let held = Waiting::silent(host.netns(), target()?, 2)?;
    let server = server(&host, "gen2")?;
    let mut arguments = vec!["upgrade", "--generation", "gen2", "--"];
    arguments.extend(server.iter().map(String::as_str));
    let waits = host.start_hotlb(&arguments)?;
    host.wait_state("gen1", &["draining"])?;
    wait::until_true("no rollout is in the way", LIMIT, || {
        rollout(&host, "phase").is_ok_and(|phase| phase.is_empty())
    })?;
    host.ok(&["agent", "upgrade"])?;
    waits.finish(LIMIT)?.expect_success()?;
    let all = json(&host, &["history"])?;
    let id = all.pointer("/rollouts/0/id").and_then(Value::as_str);
    let id = id.context("an empty history")?.to_owned();
    let (phases, outcome) = told(&host, &id)?;
    ensure!(outcome.is_empty(), "{outcome}: {phases:?}");
    drop(held);
    host.wait_state("gen1", &["standby"])?;
    let (phases, outcome) = ended(&host, &id)?;
    ensure!(outcome == "done", "{outcome}: {phases:?}");
    Ok(())
}

#[test]
fn not_before_the_bake_and_not_while_it_is_undone() -> Result<()> {
    let host = scene("")?;
    let hook = "validate=sleep 3";
    let upgrade = upgrading(&host, &["--hook", hook], "validate")?;
    host.hotlb(&["agent", "upgrade"])?
        .expect_code(6)?
        .expect_one_line_error()?
        .expect_stderr(&["upgrade on service web", "under way"])?;
    upgrade.finish(LIMIT)?.expect_success()?;
    host.ok(&["rollback"])?;
    host.wait_state("gen2", &["standby"])?;
    host.ok(&["stop", "gen2"])?;

    // Nobody waits for this one.
    let hook = "post_rollback=sleep 4";
    let options = ["--generation", "gen3", "--bake", "60s", "--no-wait"];
    let server = server(&host, "gen3")?;
    let mut arguments = vec!["upgrade"];
    arguments.extend(options);
    arguments.extend(["--hook", hook, "--"]);
    arguments.extend(server.iter().map(String::as_str));
    host.ok(&arguments)?;
    let id = rollout(&host, "id")?;
    let pid = host.generation("gen3")?.process()?;
    cgroups::kill(&cgroups::of(pid)?)?;
    wait::until_true("it is undone", LIMIT, || {
        rollout(&host, "phase").is_ok_and(|phase| phase == "post_rollback")
    })?;
    host.hotlb(&["agent", "upgrade"])?
        .expect_code(6)?
        .expect_one_line_error()?
        .expect_stderr(&[&id, "post_rollback", "under way"])?;
    let (_, outcome) = ended(&host, &id)?;
    ensure!(outcome == "rolled_back", "{outcome}");
    host.ok(&["agent", "upgrade"])?;
    expect_active(&host, "gen1")
}

/// A successor that gets everything and dies of it.
#[test]
fn a_failed_hand_over_in_the_bake_costs_it_nothing() -> Result<()> {
    let host = scene("")?;
    let load = host.load(Plan::new(target()?))?;
    let waits = upgrading(&host, &["--bake", "5s"], "bake")?;
    let id = rollout(&host, "id")?;
    let text = format!(
        "#!/bin/sh\nprintf '{{\"hello\":{{\"protocol\":1,\"version\":\"9.8.7\",\"pid\":1,\"api\":1,\"takes\":\
         {{\"maps\":[0,{0}],\"keeper\":[0,9],\"ledger\":[0,9],\"journal\":[0,9]}}}}}}' >&0; sleep 0.2\n",
        lb_common::ABI_VERSION
    );
    let dies = host.directory().join("dies");
    fs::write(&dies, text)?;
    fs::set_permissions(&dies, fs::Permissions::from_mode(0o755))?;
    let dies = dies.display().to_string();
    for _ in 0..2 {
        host.hotlb(&["agent", "upgrade", &dies])?
            .expect_code(1)?
            .expect_stderr(&["remains in charge"])?;
        ensure!(rollout(&host, "id")? == id, "{}", host.agent_log());
    }
    let (phases, outcome) = ended(&host, &id)?;
    ensure!(outcome == "done", "{outcome}: {phases:?}");
    ensure!(
        phases.iter().filter(|phase| *phase == "drain").count() == 1,
        "{phases:?}"
    );
    expect_active(&host, "gen2")?;
    let answer = waits.finish(LIMIT)?.expect_success()?;
    ensure!(
        answer
            .stdout
            .contains("an upgrade of the agent failed meanwhile"),
        "{}",
        answer.describe()
    );
    host.ok(&["rollback"])?;
    host.ok(&["agent", "upgrade"])?;
    expect_active(&host, "gen1")?;
    load.stop()?.expect_none_lost()
}

/// What was adopted is so in the next agent too, connections of before included.
#[test]
fn an_adopted_server_is_handed_over() -> Result<()> {
    if nginx::binary().is_none() {
        return report::skip("agent upgrade, adopted", "nginx is not installed");
    }
    let mut scene = adoption::Scene::new()?;
    let silent = Waiting::silent(scene.host.netns(), target()?, 5)?;
    scene.adopt()?;
    for _ in 0..2 {
        scene.host.ok(&["agent", "upgrade"])?;
        let gen1 = scene.host.generation("gen1")?;
        ensure!(
            gen1.origin == "adopted" && gen1.state == "active",
            "{gen1:#?}"
        );
        ensure!(gen1.connections.live >= 5, "{gen1:#?}");
    }
    drop(silent);
    scene.upgrade()?;
    scene.finish()
}
