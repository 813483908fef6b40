//! Promise: nothing that is typed, configured or inherited breaks the agent, and a task that breaks all the same frees
//! its service: the traffic is where the word says, and every verb works.

use std::{
    ffi::OsStr,
    fs,
    net::SocketAddr,
    os::unix::{ffi::OsStrExt as _, fs::symlink},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use hotlb::fault::FAULTS;
use hotlb_tests::{
    command, history,
    host::Host,
    locate,
    servers::{CommandLine, Plain},
};

const TARGET: &str = "127.0.0.1:8080";
const LIMIT: Duration = Duration::from_secs(20);
/// "For ever", as people write it.
const FOR_EVER: &str = "18446744073709551615s";
const BYTES: &[u8] = b"caf\xe9";

fn target() -> Result<SocketAddr> {
    Ok(TARGET.parse()?)
}

fn plain(generation: &str) -> Result<CommandLine> {
    Plain::new(generation).listen("0.0.0.0:8080").command()
}

fn upgrade(host: &Host, options: &[&str], generation: &str) -> Result<command::Run> {
    let server = plain(generation)?;
    let mut arguments = vec!["upgrade", "--generation", generation];
    arguments.extend(options);
    arguments.push("--");
    arguments.extend(server.iter().map(String::as_str));
    host.hotlb(&arguments)
}

/// Each task breaks once, and after each the service can be operated.
#[test]
fn every_task_may_break() -> Result<()> {
    let mut host =
        Host::with_service("listen = [\"0.0.0.0:8080\"]\nkeep = \"0s\"\nready_timeout = \"10s\"")?;
    upgrade(&host, &[], "a")?.expect_success()?;
    host.kill_agent()?;
    let points =
        "deploy,pre_load,rolling_back,validate,swap,bake,leaving,end,drain,post_rollback,tend";
    host.start_agent_with(&[(FAULTS, points)])?;
    let still_a = |host: &Host| {
        ensure!(host.web()?.active.as_deref() == Some("a"), "not a");
        host.expect_answers(target()?, 5, "a")
    };

    host.try_deploy("b", &plain("b")?)?
        .expect_code(7)?
        .expect_stderr(&[
            "a bug in hotlb",
            "the deploy of b",
            "an injected fault at deploy",
        ])?;
    still_a(&host)?;
    for (phase, options) in [
        ("pre_load", [].as_slice()),
        ("validate", &[]),
        ("swap", &[]),
        ("bake", &["--bake", "300ms"]),
    ] {
        let drill = format!("an injected fault at {phase}");
        // The name is free again each time.
        upgrade(&host, options, "b")?
            .expect_code(7)?
            .expect_stderr(&["a bug in hotlb", &drill])?;
        still_a(&host)?;
        let told = history::expect_outcome(&host, "rolled_back")?;
        let reason = history::text(&told, "/reason").unwrap_or_default();
        ensure!(reason.contains(&drill), "{told:#}");
        // Its drain and its end break too, in the background.
        host.wait_state("b", &["failed", "stopped"])?;
    }
    // The former generation is drained in a second try.
    let run = upgrade(&host, &[], "c")?.expect_success()?;
    ensure!(
        run.stderr.contains("an injected fault at drain"),
        "{}",
        run.describe()
    );
    host.expect_answers(target()?, 5, "c")?;
    let told = history::expect_outcome(&host, "done")?;
    let reason = history::text(&told, "/reason").unwrap_or_default();
    ensure!(reason.contains("an injected fault at drain"), "{told:#}");
    host.wait_state("a", &["stopped"])?;
    host.ok(&["rollback"])?;
    still_a(&host)?;

    let log = host.agent_log();
    for point in points.split(',') {
        let drill = format!("an injected fault at {point}");
        ensure!(log.contains(&drill), "{point} was never reached:\n{log}");
    }
    host.upgrade("d", &plain("d")?)?;
    host.deploy("e", &plain("e")?)?;
    host.ok(&["stop", "e"])?;
    host.ok(&["down"])?;
    Ok(())
}

#[test]
fn a_drill_at_no_point_is_refused() -> Result<()> {
    let host = Host::without_agent()?;
    host.write_config("[service.web]\nlisten = [\"0.0.0.0:8080\"]\n")?;
    let mut agent = host.command(host.binary());
    agent.arg("agent").env("HOTLB_DRILL_PANIC", "swap,nowhere");
    command::run(&mut agent, LIMIT)?
        .expect_code(78)?
        .expect_last_error(&["HOTLB_DRILL_PANIC", "nowhere", "rolling_back"])?;
    Ok(())
}

/// Variables that are not UTF-8 reach the server as they are, and a program is found in a directory whose name is not.
#[test]
fn an_environment_of_bytes() -> Result<()> {
    let mut host = Host::without_agent()?;
    let bin = host.directory().join(OsStr::from_bytes(BYTES));
    fs::create_dir(&bin)?;
    symlink(locate::plain_server()?, bin.join("the-server"))?;
    host.write_config(
        "[service.web]\nlisten = [\"0.0.0.0:8080\"]\nkeep = \"0s\"\nhealth = { exec = [\"the-check\"] }\n\
         [service.web.hooks]\nvalidate = [\"the-check\"]\n",
    )?;
    symlink("/bin/true", bin.join("the-check"))?;
    let mut path = bin.clone().into_os_string();
    path.push(":/usr/bin:/bin");
    let mut agent = host.command(host.binary());
    agent
        .arg("agent")
        .env("PATH", &path)
        .env("BAD", OsStr::from_bytes(BYTES))
        .env("NOTIFY_SOCKET", bin.join("nobody"))
        .env("OTEL_SERVICE_NAME", OsStr::from_bytes(BYTES));
    host.start_agent_as(&mut agent)?;
    for name in ["a", "b"] {
        let mut server = plain(name)?;
        if let Some(program) = server.first_mut() {
            "the-server".clone_into(program);
        }
        host.upgrade(name, &server)?;
    }
    host.ok(&["rollback"])?;
    host.expect_answers(target()?, 5, "a")?;
    let pid = host.generation("a")?.pid.context("it runs")?;
    let environment = fs::read(format!("/proc/{pid}/environ"))?;
    let mut expected = b"BAD=".to_vec();
    expected.extend(BYTES);
    let has = |variable: &[u8]| environment.split(|&byte| byte == 0).any(|v| v == variable);
    ensure!(has(&expected), "BAD is not as it was");
    Ok(())
}

/// What cannot be told to the agent is named, and is wrong usage.
#[test]
fn arguments_and_directories_of_bytes() -> Result<()> {
    let host = Host::with_service("listen = [\"0.0.0.0:8080\"]")?;
    let mut deploy = host.command(host.binary());
    deploy
        .args(["deploy", "--", "server"])
        .arg(OsStr::from_bytes(BYTES));
    command::run(&mut deploy, LIMIT)?
        .expect_code(2)?
        .expect_stderr(&["argument 4", "caf\\xe9", "not UTF-8"])?;
    let here = host.directory().join(OsStr::from_bytes(BYTES));
    fs::create_dir(&here)?;
    let mut deploy = host.command(host.binary());
    deploy.args(["upgrade", "--", "true"]).current_dir(&here);
    command::run(&mut deploy, LIMIT)?
        .expect_code(2)?
        .expect_one_line_error()?
        .expect_stderr(&["the current directory", "caf\\xe9", "not UTF-8"])?;
    let mut gone = host.command("sh");
    let script = "rmdir \"$PWD\" && exec \"$0\" deploy -- true";
    gone.args(["-c", script])
        .arg(host.binary())
        .current_dir(&here);
    command::run(&mut gone, LIMIT)?
        .expect_code(2)?
        .expect_stderr(&["cannot determine the current directory"])?;
    let mut upgrade = host.command(host.binary());
    upgrade
        .args(["agent", "upgrade", "--config"])
        .arg(PathBuf::from(OsStr::from_bytes(BYTES)));
    command::run(&mut upgrade, LIMIT)?
        .expect_code(2)?
        .expect_stderr(&["the configuration", "caf\\xe9"])?;
    let mut agent: Command = host.command(host.binary());
    agent.arg("agent").env(
        "HOTLB_RUNTIME_DIR",
        host.directory().join(OsStr::from_bytes(BYTES)),
    );
    command::run(&mut agent, LIMIT)?
        .expect_code(78)?
        .expect_last_error(&["not UTF-8", "HOTLB_RUNTIME_DIR"])?;
    Ok(())
}

/// A number that no sum has room for is as good as "for ever".
#[test]
fn durations_without_end() -> Result<()> {
    let spans =
        ["signal_after", "deadline", "hung_after"].map(|key| format!("{key} = \"{FOR_EVER}\"\n"));
    let host = Host::with_service(&format!(
        "listen = [\"0.0.0.0:8080\"]\nready_timeout = \"{FOR_EVER}\"\nkeep = \"{FOR_EVER}\"\n\
         hung_worker_after = \"{FOR_EVER}\"\n[service.web.drain]\n{}long_lived = {{ after = \"1s\", \
         deadline = \"{FOR_EVER}\" }}\n",
        spans.concat()
    ))?;
    upgrade(&host, &[], "a")?.expect_success()?;
    let options = ["--timeout", FOR_EVER, "--keep", FOR_EVER];
    upgrade(&host, &options, "b")?.expect_success()?;
    host.ok(&["rollback"])?;
    host.ok(&["stop", "b"])?;
    // On probation for ever, until somebody thinks better of it.
    upgrade(&host, &["--bake", FOR_EVER, "--no-wait"], "c")?.expect_success()?;
    host.ok(&["rollback"])?;
    host.expect_answers(target()?, 5, "a")?;
    // Cut short by the next one.
    upgrade(&host, &["--bake", FOR_EVER, "--no-wait"], "d")?.expect_success()?;
    upgrade(&host, &[], "e")?.expect_success()?;
    host.expect_answers(target()?, 5, "e")?;
    host.ok(&["down"])?;
    let log = host.agent_log();
    ensure!(!log.contains("panicked"), "{log}");
    Ok(())
}
