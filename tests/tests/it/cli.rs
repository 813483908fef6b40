//! Promise: the command line teaches, errors have documented codes, and scripts get JSON.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{
    command,
    host::Host,
    load::Plan,
    process::pid_from,
    servers::{Kind, Plain},
    wait,
};
use nix::sys::signal::{Signal, kill};
use serde_json::Value;

const VERBS: [&str; 11] = [
    "agent", "run", "deploy", "promote", "rollback", "upgrade", "stop", "status", "history",
    "down", "doctor",
];
const LIMIT: Duration = Duration::from_secs(15);
const SERVICE: &str = "listen = [\"0.0.0.0:8080\"]";

fn scene() -> Result<Host> {
    let host = Host::with_service(SERVICE)?;
    host.upgrade(
        "gen1",
        &Kind::Plain.command(host.directory(), "gen1", 8080)?,
    )?;
    Ok(host)
}

fn json(text: &str) -> Result<Value> {
    serde_json::from_str(text).with_context(|| format!("not JSON: {text}"))
}

#[test]
fn without_arguments_it_teaches() -> Result<()> {
    let host = Host::without_agent()?;
    let run = host.hotlb(&[])?.expect_code(2)?;
    let text = format!("{}{}", run.stdout, run.stderr);
    ensure!(
        text.contains("Usage") && VERBS.iter().all(|verb| text.contains(verb)),
        "{}",
        run.describe()
    );
    let help = host.ok(&["--help"])?;
    ensure!(
        VERBS.iter().all(|verb| help.stdout.contains(verb)),
        "{}",
        help.describe()
    );
    ensure!(host.ok(&["--version"])?.stdout.starts_with("hotlb "));
    for verb in VERBS {
        let help = host.ok(&[verb, "--help"])?;
        ensure!(help.stdout.contains("Usage"), "{}", help.describe());
    }
    Ok(())
}

#[test]
fn a_typo_is_corrected() -> Result<()> {
    let host = Host::without_agent()?;
    host.hotlb(&["promot", "gen1"])?
        .expect_code(2)?
        .expect_stderr(&["promot", "promote"])?;
    host.hotlb(&["status", "--servce", "web"])?
        .expect_code(2)?
        .expect_stderr(&["--service"])?;
    host.hotlb(&["promote"])?.expect_code(2)?;
    host.hotlb(&["deploy", "--"])?.expect_code(2)?;
    host.hotlb(&["deploy", "--timeout", "soon", "--", "true"])?
        .expect_code(2)?
        .expect_stderr(&["soon"])?;
    Ok(())
}

#[test]
fn without_an_agent_every_verb_says_so() -> Result<()> {
    let host = Host::without_agent()?;
    for arguments in [
        &["status"][..],
        &["history"],
        &["history", "show", "r1"],
        &["deploy", "--", "true"],
        &["promote", "gen1"],
        &["rollback"],
        &["upgrade", "--", "true"],
        &["stop", "gen1"],
        &["down"],
    ] {
        let run = host
            .hotlb(arguments)?
            .expect_code(3)?
            .expect_one_line_error()?;
        ensure!(
            run.stderr.contains("hotlb agent"),
            "it does not say what to do\n{}",
            run.describe()
        );
        ensure!(run.stdout.is_empty(), "{}", run.describe());
    }
    Ok(())
}

#[test]
fn errors_are_json_when_asked_for() -> Result<()> {
    let host = Host::without_agent()?;
    let run = host
        .hotlb(&["status", "--output", "json"])?
        .expect_code(3)?;
    let error = json(&run.stdout)?;
    let text = |key: &str| {
        error["error"][key]
            .as_str()
            .is_some_and(|text| !text.is_empty())
    };
    ensure!(text("code") && text("message"), "{}", run.describe());

    // What is not understood at all is an answer too.
    for wrong in [&["-o", "json", "statsu"][..], &["promote", "--output=json"]] {
        let run = host.hotlb(wrong)?.expect_code(2)?;
        ensure!(
            json(&run.stdout)?["error"]["code"] == "usage",
            "{}",
            run.describe()
        );
        ensure!(run.stderr.is_empty(), "{}", run.describe());
    }
    let host = {
        drop(host);
        scene()?
    };
    let run = host
        .hotlb(&["--output", "json", "promote", "gen9"])?
        .expect_code(5)?;
    ensure!(
        json(&run.stdout)?["error"]["message"]
            .as_str()
            .is_some_and(|text| text.contains("gen9"))
    );
    Ok(())
}

#[test]
fn every_verb_speaks_json() -> Result<()> {
    let host = scene()?;
    let line = Kind::Plain.command(host.directory(), "gen2", 8080)?;
    let mut deploy = vec!["deploy", "--output", "json", "--generation", "gen2", "--"];
    deploy.extend(line.iter().map(String::as_str));
    for arguments in [
        &deploy[..],
        &["promote", "--output", "json", "gen2"],
        &["rollback", "--output", "json"],
        &["stop", "--output", "json", "gen2"],
        &["status", "--output", "json"],
        &["history", "--output", "json"],
        &["doctor", "--output", "json"],
        &["down", "--output", "json"],
    ] {
        let run = host.ok(arguments)?;
        json(&run.stdout).with_context(|| run.describe())?;
    }
    Ok(())
}

#[test]
fn a_piped_table_is_plain_text() -> Result<()> {
    let host = scene()?;
    let run = host.ok(&["status"])?;
    ensure!(
        !run.stdout.contains('\u{1b}'),
        "colours in a pipe\n{}",
        run.describe()
    );
    for part in ["web", "gen1", "active", "0.0.0.0:8080"] {
        ensure!(run.stdout.contains(part), "no {part}\n{}", run.describe());
    }
    // Of the table: a warning is a sentence.
    let table = run.stdout.lines().filter(|line| !line.contains("  ! "));
    let width = table
        .map(|line| line.chars().count())
        .max()
        .unwrap_or_default();
    ensure!(
        width <= 160,
        "a line of {width} characters\n{}",
        run.describe()
    );
    Ok(())
}

/// A reader that goes away early, such as `head`, is no error.
#[test]
fn a_closed_pipe_is_no_error() -> Result<()> {
    let host = scene()?;
    let mut pipe = host.command("bash");
    pipe.args(["-c", "set -o pipefail; \"$0\" status --output json | true"])
        .arg(host.binary());
    let run = command::run(&mut pipe, LIMIT)?.expect_success()?;
    ensure!(!run.stderr.contains("panicked"), "{}", run.describe());
    Ok(())
}

/// A disk that is full is no agent that broke.
#[test]
fn an_answer_that_cannot_be_printed() -> Result<()> {
    let host = scene()?;
    for line in ["status", "history", "-o json status", "doctor"] {
        let mut full = host.command("sh");
        let script = format!("\"$0\" {line} > /dev/full");
        full.args(["-c", &script]).arg(host.binary());
        command::run(&mut full, LIMIT)?
            .expect_code(1)?
            .expect_stderr(&["the answer cannot be printed", "No space left"])?;
    }
    Ok(())
}

#[test]
fn quiet_is_quiet() -> Result<()> {
    let host = scene()?;
    let line = Kind::Plain.command(host.directory(), "gen2", 8080)?;
    let mut deploy = vec!["--quiet", "deploy", "--generation", "gen2", "--"];
    deploy.extend(line.iter().map(String::as_str));
    for arguments in [
        &deploy[..],
        &["--quiet", "promote", "gen2"],
        &["--quiet", "rollback"],
    ] {
        let run = host.ok(arguments)?;
        ensure!(
            run.stdout.is_empty() && run.stderr.is_empty(),
            "{}",
            run.describe()
        );
    }
    host.hotlb(&["--quiet", "promote", "gen9"])?
        .expect_code(5)?
        .expect_one_line_error()?;
    Ok(())
}

#[test]
fn completions() -> Result<()> {
    let host = Host::without_agent()?;
    for shell in ["bash", "zsh", "fish"] {
        let run = host.ok(&["completions", shell])?;
        ensure!(
            run.stdout.contains("promote") && run.stdout.contains("rollback"),
            "{shell}: {}",
            run.describe()
        );
    }
    host.hotlb(&["completions", "tea"])?.expect_code(2)?;
    Ok(())
}

#[test]
fn doctor_names_what_it_looked_at() -> Result<()> {
    let host = Host::without_agent()?;
    let run = host.hotlb(&["doctor"])?;
    for part in ["kernel", "cgroup", "bpffs", "sk_reuseport"] {
        ensure!(
            run.stdout.to_lowercase().contains(part),
            "no {part}\n{}",
            run.describe()
        );
    }
    json(&host.hotlb(&["doctor", "--output", "json"])?.stdout)?;
    Ok(())
}

/// The server runs where and with what the client said.
#[test]
fn directory_and_environment_reach_the_server() -> Result<()> {
    let host = Host::with_service(SERVICE)?;
    let line = Kind::Plain.command(host.directory(), "gen1", 8080)?;
    let mut deploy = vec![
        "deploy",
        "--env",
        "COLOUR=blue",
        "--env",
        "EMPTY=",
        "--generation",
        "gen1",
        "--",
    ];
    deploy.extend(line.iter().map(String::as_str));
    let work = host.directory().join("work");
    std::fs::create_dir(&work)?;
    let mut client = host.command(host.binary());
    client.args(&deploy).current_dir(&work);
    command::run(&mut client, LIMIT)?.expect_success()?;
    let process = procfs::process::Process::new(host.generation("gen1")?.process()?.as_raw())?;
    let environment = process.environ()?;
    let value = |name: &str| environment.get(std::ffi::OsStr::new(name)).cloned();
    ensure!(
        value("COLOUR").is_some_and(|value| value == "blue"),
        "{environment:?}"
    );
    ensure!(
        value("EMPTY").is_some_and(|value| value.is_empty()),
        "{environment:?}"
    );
    ensure!(process.cwd()? == work, "it runs in {:?}", process.cwd()?);
    Ok(())
}

/// `hotlb upgrade` names the generations by itself.
#[test]
fn upgrade_names_generations() -> Result<()> {
    let host = Host::with_service(SERVICE)?;
    let load = host.load(Plan::new("127.0.0.1:8080".parse()?).workers(8))?;
    for expected in ["gen1", "gen2", "gen3"] {
        let line = Kind::Plain.command(host.directory(), expected, 8080)?;
        let mut upgrade = vec!["upgrade", "--"];
        upgrade.extend(line.iter().map(String::as_str));
        host.ok(&upgrade)?;
        ensure!(
            host.web()?.active.as_deref() == Some(expected),
            "{:#?}",
            host.web()?
        );
        host.expect_answers("127.0.0.1:8080".parse()?, 20, expected)?;
    }
    load.stop()?.expect_none_failed()
}

/// `hotlb run` in one terminal, `hotlb upgrade` in another, Ctrl-C ends everything.
#[test]
fn run_without_any_configuration() -> Result<()> {
    let host = Host::without_agent()?;
    let target = "127.0.0.1:8080".parse()?;
    let line = Plain::new("first").listen("0.0.0.0:8080").command()?;
    let mut run = vec!["run", "--listen", "0.0.0.0:8080", "--"];
    run.extend(line.iter().map(String::as_str));
    let mut running = host.start_hotlb(&run)?;
    let served = wait::until_true("it serves", LIMIT, || {
        host.ask(target).is_ok_and(|name| name == "first")
    });
    served.with_context(|| running.stderr().unwrap_or_default())?;

    let load = host.load(Plan::new(target).workers(8))?;
    let line = Plain::new("second").listen("0.0.0.0:8080").command()?;
    let mut upgrade = vec!["upgrade", "--"];
    upgrade.extend(line.iter().map(String::as_str));
    host.ok(&upgrade)?;
    host.expect_answers(target, 20, "second")?;
    load.stop()?.expect_none_lost()?;
    ensure!(host.status()?.service("default")?.active.is_some());

    kill(pid_from(running.id()), Signal::SIGINT)?;
    let ended = running.finish(LIMIT)?;
    ensure!(matches!(ended.code, 0 | 130), "{}", ended.describe());
    wait::until_true("everything has ended", LIMIT, || {
        host.netns().pids().is_ok_and(|pids| pids.is_empty())
    })
}

/// Ctrl-C before the first server serves: nothing is left either.
#[test]
fn run_that_is_ended_while_it_starts() -> Result<()> {
    let host = Host::without_agent()?;
    let line = Plain::new("first").listen("0.0.0.0:8080").command()?;
    let mut run = vec!["run", "--listen", "0.0.0.0:8080", "--"];
    run.extend(line.iter().map(String::as_str));
    let cgroup = host.cgroup()?;
    let running = host.start_hotlb(&run)?;
    wait::until_true("it has begun", LIMIT, || cgroup.exists())?;
    kill(pid_from(running.id()), Signal::SIGINT)?;
    running.finish(LIMIT)?;
    wait::until_true("everything has ended", LIMIT, || {
        host.netns().pids().is_ok_and(|pids| pids.is_empty())
    })?;
    let service = host.bpffs().join("default");
    ensure!(!service.exists(), "{} is left", service.display());
    let service = cgroup.join("default");
    ensure!(!service.exists(), "{} is left", service.display());
    Ok(())
}

/// A first server that cannot start ends `hotlb run`, with its error and without anything left.
#[test]
fn run_with_a_bad_server_ends() -> Result<()> {
    let host = Host::without_agent()?;
    let line = Plain::new("first")
        .option("--exit-at-once", 3)
        .option("--stderr-lines", 2)
        .command()?;
    let mut run = vec!["run", "--listen", "0.0.0.0:8080", "--"];
    run.extend(line.iter().map(String::as_str));
    host.hotlb(&run)?
        .expect_code(1)?
        .expect_stderr(&["complaint 2"])?;
    wait::until_true("everything has ended", LIMIT, || {
        host.netns().pids().is_ok_and(|pids| pids.is_empty())
    })
}
