//! Promise: every rollout is told afterwards, and an agent whose journal is in trouble says so and runs on.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use hotlb::fault::FAULTS;
use hotlb::store::journal::{
    CutConnection, End, GenerationRef, Journal, NewRollout, Outcome, Record, RolloutKind, Who,
};
use hotlb_tests::{
    api, command,
    host::Host,
    mounts::{self, Tmpfs},
    wait,
};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(10);
const CONFIG: &str = "[service.web]\nlisten = [\"0.0.0.0:8080\"]\n";

fn json(text: &str) -> Result<Value> {
    serde_json::from_str(text).with_context(|| format!("not JSON: {text}"))
}

fn rollout(kind: RolloutKind, to: &str) -> NewRollout {
    NewRollout {
        service: "web".to_owned(),
        kind,
        from: None,
        to: GenerationRef {
            id: 1,
            name: to.to_owned(),
        },
        who: Who {
            uid: Some(0),
            pid: Some(4711),
            name: "root".to_owned(),
        },
        trace: "0af7651916cd43dd8448eb211c80319c".to_owned(),
        boot: "boot".to_owned(),
    }
}

/// Writes what an agent before would have left: a finished rollout r1, and r2 which is not over.
fn past(host: &Host) -> Result<()> {
    let state = host.directory().join("state");
    fs::create_dir_all(&state)?;
    let journal = Journal::open(state.join("hotlb.db"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let cut = CutConnection {
        peer: "10.0.0.1:5000".parse()?,
        local: "10.0.0.2:8080".parse()?,
        age_ms: Some(61_000),
        state: "ESTABLISHED".to_owned(),
        how: "destroyed".to_owned(),
    };
    runtime.block_on(async {
        let id = journal
            .begin(rollout(RolloutKind::Upgrade, "gen\u{1b}[31m1"))
            .await?;
        let records = [
            Record::Note {
                text: "it \u{1b}[2Jbegan".to_owned(),
            },
            Record::Cut {
                connections: vec![cut; 25],
            },
        ];
        for record in records {
            journal.record(id, record).await?;
        }
        let end = End {
            outcome: Outcome::RolledBack,
            reason: Some("it crashed".to_owned()),
        };
        journal.finish(id, end).await?;
        // Of a service that is not configured any more: nobody finishes it.
        let unfinished = NewRollout {
            service: "former".to_owned(),
            ..rollout(RolloutKind::Promote, "gen2")
        };
        journal.begin(unfinished).await
    })?;
    drop(journal);
    let log = state.join("hotlb.db-wal");
    wait::until_true("the journal is closed", LIMIT, || !log.exists())
}

fn scene() -> Result<Host> {
    let mut host = Host::without_agent()?;
    past(&host)?;
    host.write_config(CONFIG)?;
    host.start_agent()?;
    Ok(host)
}

#[test]
fn the_history_is_listed_and_told() -> Result<()> {
    let host = scene()?;
    let list = host.ok(&["history"])?;
    for part in [
        "r2",
        "promote gen2",
        "in progress",
        "r1",
        "rolled back",
        "it crashed",
        "pid 4711",
    ] {
        ensure!(list.stdout.contains(part), "no {part}\n{}", list.describe());
    }
    ensure!(
        list.stdout.find("r2") < list.stdout.find("r1"),
        "{}",
        list.describe()
    );
    let one = host.ok(&["history", "--limit", "1"])?;
    ensure!(!one.stdout.contains("r1 "), "{}", one.describe());

    for name in ["r1", "1"] {
        let told = host.ok(&["history", "show", name])?;
        for part in [
            "rolled back: it crashed",
            "25 connections were cut",
            "and 5 more",
        ] {
            ensure!(told.stdout.contains(part), "no {part}\n{}", told.describe());
        }
        ensure!(!told.stdout.contains('\u{1b}'), "{}", told.describe());
    }
    ensure!(!list.stdout.contains('\u{1b}'), "{}", list.describe());
    Ok(())
}

#[test]
fn the_history_is_json_when_asked_for() -> Result<()> {
    let host = scene()?;
    let list = host.ok(&["history", "--output", "json"])?;
    let list = json(&list.stdout)?;
    ensure!(
        list["api"] == 2 && list["rollouts"][0]["id"] == "r2",
        "{list:#}"
    );
    let told = host.ok(&["history", "show", "r1", "--output", "json"])?;
    let told = json(&told.stdout)?;
    ensure!(told["outcome"] == "rolled_back", "{told:#}");
    let cut = &told["entries"][1]["record"]["connections"];
    ensure!(
        cut.as_array().is_some_and(|cut| cut.len() == 25),
        "{told:#}"
    );

    let ask = |path: &str| api::request(&host.socket(), "GET", path, api::VERSION, "");
    for (path, code, part) in [
        ("/v1/history?service=web&limit=1", 200, "\"r1\""),
        ("/v1/history?service=-&limit=0", 200, "[]"),
        ("/v1/history?limit=-1", 400, "bad_request"),
        ("/v1/history?servce=web", 400, "servce"),
        ("/v1/history?service=nosuch", 404, "unknown_service"),
        ("/v1/history/r99", 404, "unknown_rollout"),
        ("/v1/history/..", 400, "bad_request"),
        ("/v1/history/r1", 200, "it crashed"),
    ] {
        let answer = ask(path)?;
        ensure!(
            answer.code == code && answer.body.contains(part),
            "{path}: {answer:?}"
        );
    }
    Ok(())
}

#[test]
fn what_is_not_there_is_said() -> Result<()> {
    let host = Host::with_config(CONFIG)?;
    let none = host.ok(&["history"])?;
    ensure!(none.stdout == "no rollouts yet\n", "{}", none.describe());
    let none = host.ok(&["history", "--service", "web"])?;
    ensure!(
        none.stdout == "no rollouts of web yet\n",
        "{}",
        none.describe()
    );
    host.hotlb(&["history", "--service", "wbe"])?
        .expect_code(5)?
        .expect_one_line_error()?
        .expect_stderr(&["wbe", "web"])?;
    host.hotlb(&["history", "show", "r7"])?
        .expect_code(5)?
        .expect_one_line_error()?
        .expect_stderr(&["r7", "hotlb history"])?;
    for (arguments, part) in [
        (&["history", "show", "seven"][..], "seven"),
        (&["history", "show"], "ID"),
        (&["history", "shwo", "r1"], "show"),
        (&["history", "--limit", "0"], "--limit"),
        (&["histroy"], "history"),
    ] {
        host.hotlb(arguments)?
            .expect_code(2)?
            .expect_stderr(&[part])?;
    }
    Ok(())
}

/// The agent's own warnings.
fn warned(host: &Host, part: &str) -> Result<bool> {
    let status = host.ok(&["status", "--output", "json"])?;
    let status = json(&status.stdout)?;
    let warnings = status.get("warnings").and_then(Value::as_array);
    let warnings = warnings.context("no warnings")?;
    Ok(warnings
        .iter()
        .filter_map(Value::as_str)
        .any(|text| text.contains("the journal cannot be written") && text.contains(part)))
}

fn wait_for_warning(host: &Host, part: &str, there: bool) -> Result<()> {
    wait::until_true(&format!("a warning of {part}: {there}"), LIMIT, || {
        warned(host, part).is_ok_and(|warned| warned == there)
    })
    .with_context(|| host.agent_log())
}

#[test]
fn garbage_is_warned_of_and_not_replaced() -> Result<()> {
    let mut host = Host::without_agent()?;
    let state = host.directory().join("state");
    fs::create_dir_all(&state)?;
    let (path, aside) = (state.join("hotlb.db"), state.join("aside"));
    let garbage = "no database ".repeat(1000);
    fs::write(&path, &garbage)?;
    host.write_config(CONFIG)?;
    host.start_agent()?;
    ensure!(warned(&host, "move it aside")?, "{}", host.agent_log());
    host.hotlb(&["history"])?
        .expect_code(7)?
        .expect_one_line_error()?
        .expect_stderr(&["hotlb.db", "move it aside"])?;
    let error = host.hotlb(&["history", "show", "r1", "--output", "json"])?;
    let error = json(&error.expect_code(7)?.stdout)?;
    ensure!(error["error"]["code"] == "journal", "{error:#}");
    ensure!(fs::read_to_string(&path)? == garbage, "it was replaced");
    fs::rename(&path, &aside)?;
    wait_for_warning(&host, "", false)?;
    host.ok(&["history"]).map(drop)
}

#[test]
fn an_agent_on_a_full_disk_says_so_while_it_lasts() -> Result<()> {
    mounts::in_private(|| {
        let mut host = Host::without_agent()?;
        let disk = Tmpfs::mount(&host.directory().join("state"), 1024)?;
        host.write_config(CONFIG)?;
        host.start_agent()?;
        ensure!(!warned(&host, "")?, "{}", host.agent_log());
        disk.fill()?;
        wait_for_warning(&host, "full", true)?;
        host.ok(&["history"])?;
        disk.free()?;
        wait_for_warning(&host, "", false)
    })
}

#[test]
fn an_agent_on_a_read_only_disk_says_so_while_it_lasts() -> Result<()> {
    mounts::in_private(|| {
        let mut host = Host::without_agent()?;
        let disk = Tmpfs::mount(&host.directory().join("state"), 1024)?;
        past(&host)?;
        disk.read_only(true)?;
        host.write_config(CONFIG)?;
        host.start_agent()?;
        ensure!(warned(&host, "read-only")?, "{}", host.agent_log());
        let list = host.ok(&["history"])?;
        ensure!(list.stdout.contains("it crashed"), "{}", list.describe());
        disk.read_only(false)?;
        wait_for_warning(&host, "", false)
    })
}

#[test]
fn what_is_too_much_is_forgotten_at_the_start() -> Result<()> {
    let mut host = scene()?;
    host.kill_agent()?;
    host.write_config(&format!("[agent]\nhistory = {{ rollouts = 1 }}\n{CONFIG}"))?;
    host.start_agent()?;
    wait::until_true("r1 is forgotten", LIMIT, || {
        host.hotlb(&["history", "show", "r1"])
            .is_ok_and(|run| run.code == 5)
    })?;
    host.ok(&["history", "show", "r2"]).map(drop)
}

#[test]
fn a_drill_is_said_and_a_wrong_one_refused() -> Result<()> {
    let host = Host::without_agent()?;
    host.write_config(CONFIG)?;
    let mut agent = host.command(host.binary());
    agent.arg("agent").env("HOTLB_DRILL", "kill@never");
    command::run(&mut agent, LIMIT)?
        .expect_code(78)?
        .expect_last_error(&["HOTLB_DRILL", "kill@never", "kill@N"])?;
    ensure!(
        !host.directory().join("state").exists(),
        "something was made"
    );
    let mut agent = host.command(host.binary());
    agent.arg("agent").env(FAULTS, "full@1");
    let mut agent = command::start(&mut agent)?;
    wait::until_true("the drill is said", LIMIT, || {
        agent
            .stderr()
            .is_ok_and(|log| log.contains("HOTLB_FAULTS is set"))
    })?;
    wait_for_warning(&host, "full", true)
}
