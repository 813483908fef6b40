//! Promise: a candidate is probed through the real port before any client reaches it. One that does not get ready is
//! stopped, the error says which check failed and shows the last lines of its stderr, and nothing is promoted.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Result, ensure};
use hotlb_tests::{
    command::Run,
    host::Host,
    load::Plan,
    servers::{CommandLine, Plain},
    wait,
};

const LISTEN: &str = "0.0.0.0:8080";
const TARGET: &str = "127.0.0.1:8080";
const LIMIT: Duration = Duration::from_secs(10);
/// `ready_timeout` of the scene.
const READY_TIMEOUT: Duration = Duration::from_secs(2);

fn plain(name: &str) -> Plain {
    Plain::new(name).listen(LISTEN)
}

struct Scene {
    host: Host,
    target: SocketAddr,
}

impl Scene {
    /// `gen1` is active; `keys` are more lines of the service's section.
    fn new(keys: &str) -> Result<Self> {
        let keys = format!("listen = [\"{LISTEN}\"]\nready_timeout = \"2s\"\n{keys}");
        let scene = Self {
            host: Host::with_service(&keys)?,
            target: TARGET.parse()?,
        };
        scene.host.upgrade("gen1", &plain("gen1").command()?)?;
        Ok(scene)
    }

    /// `server` must not get ready: exit code 1, and `gen1` goes on as if nothing had been.
    fn refuses(&self, server: &CommandLine, parts: &[&str]) -> Result<Run> {
        let run = self.refuses_unseen(server, parts)?;
        self.host
            .hotlb(&["promote", "gen2"])?
            .expect_code(6)?
            .expect_one_line_error()?;
        let failed = self.host.generation("gen2")?;
        ensure!(
            failed.state == "failed" && failed.reason.is_some(),
            "{failed:#?}"
        );
        self.expect_good_one_works()?;
        Ok(run)
    }

    /// The same for a command that is refused before there is a generation at all.
    fn refuses_command(&self, server: &CommandLine, parts: &[&str]) -> Result<Run> {
        let run = self.refuses_unseen(server, parts)?;
        ensure!(run.took < READY_TIMEOUT, "{}", run.describe());
        self.expect_good_one_works()?;
        Ok(run)
    }

    /// `server` must not get ready, and clients must not notice.
    fn refuses_unseen(&self, server: &CommandLine, parts: &[&str]) -> Result<Run> {
        let load = self.host.load(Plan::new(self.target).workers(8))?;
        let run = self.host.try_deploy("gen2", server)?;
        let run = run
            .expect_code(1)?
            .expect_one_line_error()?
            .expect_stderr(parts)?;
        load.wait_more(100, LIMIT)?;
        let outcome = load.stop()?;
        outcome.expect_none_lost()?;
        ensure!(
            outcome.by("gen2") == 0,
            "the candidate answered clients: {outcome:#?}"
        );
        self.expect_untouched()?;
        Ok(run)
    }

    /// What was refused leaves no trace that a good candidate would stumble over.
    fn expect_good_one_works(&self) -> Result<()> {
        self.host.upgrade("gen3", &plain("gen3").command()?)?;
        self.host.expect_answers(self.target, 20, "gen3")
    }

    fn expect_untouched(&self) -> Result<()> {
        let web = self.host.web()?;
        ensure!(
            web.active.as_deref() == Some("gen1") && web.fallback.is_none(),
            "{web:#?}"
        );
        ensure!(web.generation("gen1")?.state == "active", "{web:#?}");
        self.expect_only_one_server()
    }

    /// The refused candidate was stopped.
    fn expect_only_one_server(&self) -> Result<()> {
        wait::until_true("the refused candidate is gone", LIMIT, || {
            let servers = self
                .host
                .netns()
                .pids()
                .unwrap_or_default()
                .into_iter()
                .filter(|pid| {
                    std::fs::read_to_string(format!("/proc/{pid}/comm"))
                        .is_ok_and(|name| name.trim() == "plain-server")
                });
            servers.count() == 1
        })
    }
}

#[test]
fn a_server_that_exits_at_once() -> Result<()> {
    let scene = Scene::new("")?;
    let server = plain("gen2")
        .option("--exit-at-once", 3)
        .option("--stderr-lines", 40)
        .command()?;
    let run = scene.refuses(&server, &["exit", "3", "complaint 40"])?;
    ensure!(
        run.took < READY_TIMEOUT,
        "a dead server is noticed at once, not at the deadline\n{}",
        run.describe()
    );
    Ok(())
}

#[test]
fn a_server_that_never_listens() -> Result<()> {
    let server = plain("gen2")
        .flag("--never-listen")
        .option("--stderr-lines", 2)
        .command()?;
    let run = Scene::new("")?.refuses(&server, &["listen", LISTEN, "complaint 2"])?;
    ensure!(
        run.took >= READY_TIMEOUT && run.took < READY_TIMEOUT * 3,
        "{}",
        run.describe()
    );
    Ok(())
}

#[test]
fn a_server_that_never_accepts() -> Result<()> {
    let scene = Scene::new("health = { http = \"/healthz\" }")?;
    scene.refuses(
        &plain("gen2").flag("--never-accept").command()?,
        &["/healthz"],
    )?;
    Ok(())
}

#[test]
fn a_server_that_says_it_is_ill() -> Result<()> {
    let scene = Scene::new("health = { http = \"/healthz\" }")?;
    scene.refuses(
        &plain("gen2").option("--health-status", 500).command()?,
        &["/healthz", "500"],
    )?;
    Ok(())
}

#[test]
fn a_server_that_listens_elsewhere() -> Result<()> {
    let scene = Scene::new("")?;
    scene.refuses(
        &Plain::new("gen2").listen("0.0.0.0:8081").command()?,
        &[LISTEN],
    )?;
    Ok(())
}

#[test]
fn a_command_that_does_not_exist() -> Result<()> {
    let scene = Scene::new("")?;
    scene.refuses_command(&vec!["/nowhere/server".to_owned()], &["/nowhere/server"])?;
    Ok(())
}

#[test]
fn a_command_that_is_no_program() -> Result<()> {
    let scene = Scene::new("")?;
    let config = scene.host.config().display().to_string();
    scene.refuses_command(&vec![config.clone()], &[&config])?;
    Ok(())
}

#[test]
fn the_timeout_of_a_deploy_goes_before_that_of_the_service() -> Result<()> {
    let host = Host::with_service(&format!("listen = [\"{LISTEN}\"]\nready_timeout = \"30s\""))?;
    let server = plain("gen1").flag("--never-listen").command()?;
    let mut arguments = vec!["deploy", "--timeout", "1s", "--generation", "gen1", "--"];
    arguments.extend(server.iter().map(String::as_str));
    let run = host.hotlb(&arguments)?.expect_code(1)?;
    ensure!(run.took < Duration::from_secs(5), "{}", run.describe());
    Ok(())
}

/// The first process is a shell; the listener belongs to its child.
#[test]
fn a_server_behind_a_shell() -> Result<()> {
    let host = Host::with_service(&format!("listen = [\"{LISTEN}\"]"))?;
    let target = TARGET.parse()?;
    let behind_shell = |name: &str| -> Result<CommandLine> {
        let script = "\"$@\" & child=$!; trap 'kill $child' TERM; wait $child; wait $child";
        let shell = ["sh", "-c", script, "sh"].map(str::to_owned);
        Ok(shell.into_iter().chain(plain(name).command()?).collect())
    };
    host.upgrade("gen1", &behind_shell("gen1")?)?;
    let load = host.load(Plan::new(target).workers(8))?;
    host.upgrade("gen2", &behind_shell("gen2")?)?;
    host.expect_answers(target, 20, "gen2")?;
    host.upgrade("gen3", &behind_shell("gen3")?)?;
    host.expect_answers(target, 20, "gen3")?;
    load.stop()?.expect_none_lost()
}

#[test]
fn a_server_that_takes_its_time_gets_it() -> Result<()> {
    let host = Host::with_service(&format!(
        "listen = [\"{LISTEN}\"]\nhealth = {{ http = \"/healthz\" }}"
    ))?;
    let run = host.deploy(
        "gen1",
        &plain("gen1").option("--listen-after-ms", 1_000).command()?,
    )?;
    ensure!(
        run.took >= Duration::from_secs(1),
        "ready before it listened\n{}",
        run.describe()
    );
    host.promote("gen1")?;
    host.expect_answers(TARGET.parse()?, 20, "gen1")
}
