//! Promise: what the host has no room for is named, with its limit, and does not come up generations later; what is in
//! the way of a start may leave at any time.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{command, host::Host, process::Process, servers::Plain};

const LIMIT: Duration = Duration::from_secs(20);
const SERVICE: &str = "[service.web]\nlisten = [\"0.0.0.0:8080\"]\n";

fn server(name: &str) -> Result<Vec<String>> {
    Plain::new(name).listen("0.0.0.0:8080").command()
}

/// A unit file of the documents.
struct Unit(String);

impl Unit {
    fn read(name: &str) -> Result<Self> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/");
        Ok(Self(fs::read_to_string(format!("{path}{name}"))?))
    }

    /// The last value of a key, as systemd takes it, in a section.
    fn value(&self, section: &str, key: &str) -> Option<&str> {
        let (_, rest) = self.0.split_once(&format!("[{section}]\n"))?;
        let section = rest.split("\n[").next()?;
        let mut values = section.lines().filter_map(|line| line.split_once('='));
        values
            .rfind(|(name, _)| *name == key)
            .map(|(_, value)| value)
    }

    /// Whether systemd starts it once more, however often it did, when it has exited with `code`.
    fn tries_again(&self, code: i32) -> bool {
        let prevented = self
            .value("Service", "RestartPreventExitStatus")
            .unwrap_or("");
        let code = code.to_string();
        self.value("Unit", "StartLimitIntervalSec") == Some("0")
            && self.value("Service", "Restart") == Some("on-failure")
            && code != "0"
            && !prevented.split_whitespace().any(|one| one == code)
    }
}

#[test]
fn a_port_that_is_held_for_a_while() -> Result<()> {
    let unit = Unit::read("hotlb.service")?;
    let mut host = Host::without_agent()?;
    host.write_config(SERVICE)?;
    let line = server("stranger")?;
    let (program, arguments) = line.split_first().context("an empty command line")?;
    let log = host.directory().join("stranger.log");
    let mut stranger = Process::start(host.netns().command(program).args(arguments), &log)?;
    hotlb_tests::wait::until_true("the stranger listens", LIMIT, || {
        "127.0.0.1:8080"
            .parse()
            .is_ok_and(|target| host.ask(target).is_ok())
    })?;
    let run = host.start_hotlb(&["agent"])?.finish(LIMIT)?;
    ensure!(unit.tries_again(run.code), "{}", run.describe());
    stranger.kill()?;
    host.start_agent()?;
    host.upgrade("gen1", &server("gen1")?)
}

#[test]
fn an_agent_that_is_away_for_a_while() -> Result<()> {
    let unit = Unit::read("hotlb-web@.service")?;
    let host = Host::without_agent()?;
    let arguments = [
        "exec",
        "--service",
        "web",
        "--generation",
        "g1",
        "--",
        "/bin/true",
    ];
    let run = host.hotlb(&arguments)?.expect_code(3)?;
    ensure!(unit.tries_again(run.code), "{}", run.describe());
    // As a Go server that panics.
    ensure!(unit.tries_again(2));
    Ok(())
}

#[test]
fn what_never_gets_right_is_not_tried_again() -> Result<()> {
    let (agent, template) = (
        Unit::read("hotlb.service")?,
        Unit::read("hotlb-web@.service")?,
    );
    let host = Host::with_config(&format!(
        "{SERVICE}[service.api]\nlisten = [\"0.0.0.0:8081\"]\n"
    ))?;
    for arguments in [
        [
            "exec",
            "--service",
            "web",
            "--generation",
            "1.2.3",
            "--",
            "/bin/true",
        ]
        .as_slice(),
        &["exec", "--generation", "g1", "--", "/bin/true"],
    ] {
        let run = host
            .hotlb(arguments)?
            .expect_code(78)?
            .expect_one_line_error()?;
        ensure!(!template.tries_again(run.code), "{}", run.describe());
    }
    drop(host);
    let wrong = Host::without_agent()?;
    wrong.write_config("[service.web]\nlisten = []\n")?;
    let run = wrong.start_hotlb(&["agent"])?.finish(LIMIT)?;
    ensure!(!agent.tries_again(run.code), "{}", run.describe());
    Ok(())
}

/// An agent whose runtime directory has a path of so many bytes must be refused, with all of `parts`.
fn refused_at(host: &Host, bytes: usize, parts: &[&str]) -> Result<()> {
    let mut runtime = format!("{}/", host.directory().display());
    runtime.push_str(&"r".repeat(bytes - runtime.len()));
    let mut agent = host.command(host.binary());
    agent.arg("agent").env("HOTLB_RUNTIME_DIR", &runtime);
    let run = command::run(&mut agent, LIMIT)?.expect_code(78)?;
    run.expect_last_error(&[&[runtime.as_str(), "107"], parts].concat())?;
    ensure!(!host.bpffs().exists(), "pins are left");
    Ok(())
}

#[test]
fn sockets_out_of_reach_are_refused_at_the_start() -> Result<()> {
    let host = Host::without_agent()?;
    host.write_config(SERVICE)?;
    refused_at(&host, 97, &["/web.keeper", "108"])?;
    refused_at(&host, 150, &["/api.sock", "159"])?;
    host.write_config(&format!("{SERVICE}notify = true\n"))?;
    refused_at(
        &host,
        86,
        &["/web.4294967295.notify", "108", "HOTLB_RUNTIME_DIR"],
    )
}

#[test]
fn a_limit_of_cgroups_is_named() -> Result<()> {
    let host = Host::with_service("listen = [\"0.0.0.0:8080\"]")?;
    host.upgrade("gen1", &server("gen1")?)?;
    let cgroup = host.cgroup()?;
    for (directory, file, limit) in [
        (cgroup.clone(), "cgroup.max.descendants", "3"),
        (cgroup.join("web"), "cgroup.max.depth", "0"),
    ] {
        let path = directory.join(file);
        fs::write(&path, limit)?;
        let path = path.to_str().context("a path in UTF-8")?;
        let parts = [path, limit, "web/"];
        host.try_deploy("gen2", &server("gen2")?)?
            .expect_code(7)?
            .expect_last_error(&parts)?;
        fs::write(path, "max")?;
    }
    host.upgrade("gen2", &server("gen2")?)
}

#[test]
fn an_output_that_cannot_be_is_named() -> Result<()> {
    let host = Host::with_service("listen = [\"0.0.0.0:8080\"]")?;
    let outputs = host.directory().join("state/output");
    fs::create_dir_all(&outputs)?;
    fs::write(outputs.join("web"), "")?;
    let deployed = host.try_deploy("gen1", &server("gen1")?)?;
    deployed
        .expect_code(7)?
        .expect_last_error(&["output/web"])?;
    fs::remove_file(outputs.join("web"))?;
    fs::create_dir_all(outputs.join("web/gen1.log.1"))?;
    fs::write(outputs.join("web/gen1.log"), "of another one")?;
    let deployed = host.try_deploy("gen1", &server("gen1")?)?;
    deployed
        .expect_code(7)?
        .expect_last_error(&["web/gen1.log"])?;
    fs::remove_dir(outputs.join("web/gen1.log.1"))?;
    host.upgrade("gen1", &server("gen1")?)
}
