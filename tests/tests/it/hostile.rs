//! Promise: what a server does to itself stays with it. A hostile one does not keep the agent from serving another
//! service, does not grow it without bound, and does not drive the operator's terminal.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{
    footprint::Footprint,
    host::Host,
    load::Plan,
    report,
    servers::{Kind, hostile},
    wait,
};

const SERVICES: &str = "[service.bad]\nlisten = [\"0.0.0.0:8080\"]\nready_timeout = \"20s\"\n\
                        [service.good]\nlisten = [\"0.0.0.0:8081\"]\n";
const BAD: &str = "0.0.0.0:8080";
const LIMIT: Duration = Duration::from_secs(20);
/// How long a rollout of the other service may take on a machine that is busy with nonsense.
const PROMPT: Duration = Duration::from_secs(5);
/// What the agent may grow by, KiB.
const GROWTH: u64 = 64 * 1024;

struct Scene {
    host: Host,
    good: SocketAddr,
}

impl Scene {
    fn new() -> Result<Self> {
        let scene = Self {
            host: Host::with_config(SERVICES)?,
            good: "127.0.0.1:8081".parse()?,
        };
        scene.upgrade_good("good1")?;
        Ok(scene)
    }

    fn upgrade_good(&self, name: &str) -> Result<Duration> {
        let command = Kind::Plain.command(self.host.directory(), name, 8081)?;
        let began = Instant::now();
        self.host.upgrade_of("good", name, &command)?;
        Ok(began.elapsed())
    }

    fn upgrade_bad(&self, arguments: &[&str]) -> Result<()> {
        let command = hostile::command("bad1", BAD, arguments)?;
        self.host.upgrade_of("bad", "bad1", &command)
    }

    /// The same of one whose listeners are there now and then: a promote may find that nobody accepts.
    fn upgrade_flapping(&self, arguments: &[&str]) -> Result<()> {
        let command = hostile::command("bad1", BAD, arguments)?;
        self.host.deploy_of("bad", "bad1", &command)?;
        wait::until_true("it is promoted", LIMIT, || {
            let promoted = self.host.hotlb(&["promote", "-s", "bad", "bad1"]);
            promoted.is_ok_and(|run| run.code == 0)
        })
    }

    /// Upgrades of the other service, under load, while the hostile one does what it does.
    fn others_are_served(&mut self, what: &str) -> Result<()> {
        let before = Footprint::at_rest(&mut self.host)?;
        let load = self.host.load(Plan::new(self.good).workers(8))?;
        let mut slowest = Duration::ZERO;
        for number in 2..=5 {
            load.wait_more(200, LIMIT)?;
            slowest = slowest.max(self.upgrade_good(&format!("good{number}"))?);
        }
        load.wait_more(200, LIMIT)?;
        load.stop()?.expect_none_failed()?;
        let began = Instant::now();
        self.host.status()?;
        let status = began.elapsed();
        let after = Footprint::at_rest(&mut self.host)?;
        let grown = after.resident.saturating_sub(before.resident);
        report::figure(
            &format!(
                "beside a server with {what}: slowest upgrade of another service, status, growth of the agent"
            ),
            format!("{slowest:?}, {status:?}, {grown} KiB"),
        );
        ensure!(slowest < PROMPT, "an upgrade took {slowest:?}");
        ensure!(status < PROMPT, "status took {status:?}");
        ensure!(grown < GROWTH, "the agent grew by {grown} KiB");
        Ok(())
    }
}

#[test]
fn a_huge_table_of_descriptors() -> Result<()> {
    let mut scene = Scene::new()?;
    scene.upgrade_bad(&["--descriptors", "15000"])?;
    scene.others_are_served("15,000 descriptors")
}

#[test]
fn listeners_that_come_and_go() -> Result<()> {
    let mut scene = Scene::new()?;
    scene.upgrade_flapping(&["--flapping", "2"])?;
    scene.others_are_served("two threads that open and close listeners")?;
    // It can be got rid of.
    scene
        .host
        .ok(&["stop", "--park", "bad1", "--service", "bad"])?;
    Ok(())
}

#[test]
fn names_that_drive_a_terminal() -> Result<()> {
    let scene = Scene::new()?;
    let name = "\u{1b}]0;mine\u{7}\u{1b}[2J";
    scene.upgrade_bad(&["--called", name, "--lines", "1000"])?;
    // A bind that is refused has the process named in a warning.
    let elsewhere = hostile::command("bad2", "127.0.0.2:8080", &["--called", name])?;
    let mut words = vec!["deploy", "--service", "bad", "--generation", "bad2", "--"];
    words.extend(elsewhere.iter().map(String::as_str));
    let refused = scene.host.hotlb(&words)?;
    let mut texts = vec![refused.stdout, refused.stderr, scene.host.agent_log()];
    for arguments in [
        &["status"][..],
        &["history"],
        &["status", "--output", "json"],
        &["history", "--output", "json"],
        &[
            "deploy",
            "--service",
            "bad",
            "--generation",
            name,
            "--",
            "true",
        ],
        &["promote", "--service", "bad", name],
        &["profile", "bad1", "--service", "bad", "--for", "1s"],
    ] {
        let run = scene.host.hotlb(arguments)?;
        texts.extend([run.stdout, run.stderr]);
    }
    texts.push(scene.host.agent_log());
    for text in &texts {
        ensure!(
            !text.contains('\u{1b}') && !text.contains('\u{7}'),
            "{text:?}"
        );
    }
    Ok(())
}

#[test]
fn an_output_without_end_is_turned_over() -> Result<()> {
    let scene = Scene::new()?;
    scene.upgrade_bad(&["--lines", "2000000"])?;
    let status = scene.host.status()?;
    let bad = status.service("bad")?;
    let bad1 = bad.generations.first().context("no generation")?;
    let aside = bad1.output.with_extension("log.1");
    wait::until_true("the output is turned over", LIMIT, || {
        std::fs::metadata(&aside).is_ok_and(|file| file.len() > 0)
    })?;
    Ok(())
}
