//! Promise: services of one agent can be in network namespaces of their own. The same address in two of them is two
//! services that have nothing to do with each other.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{
    host::Host,
    load::{Load, Plan},
    netns::Netns,
    report,
    servers::{CommandLine, Kind, Plain},
    status::Service,
    units::{Units, exec_line, supervise},
    wait,
    waiting::Waiting,
};

const LISTEN: &str = "0.0.0.0:8080";
const TARGET: &str = "127.0.0.1:8080";
const LIMIT: Duration = Duration::from_secs(15);
const NAMES: [&str; 2] = ["blue", "green"];

fn target() -> Result<SocketAddr> {
    Ok(TARGET.parse()?)
}

fn plain(generation: &str) -> Result<CommandLine> {
    Plain::new(generation).listen(LISTEN).command()
}

/// An agent in a namespace of its own, and two others with a service each. The host goes first: what runs in the
/// namespaces is its.
struct Scene {
    host: Host,
    netns: [Netns; 2],
}

impl Scene {
    /// `keys` are more lines of each service.
    fn new(keys: &str) -> Result<Self> {
        let host = Host::without_agent()?;
        let netns = [host.netns().sibling()?, host.netns().sibling()?];
        let scene = Self { host, netns };
        let sections = scene.each().map(|(name, netns)| {
            let path = netns.path();
            format!(
                "[service.{name}]\nlisten = [\"{LISTEN}\"]\nnetns = \"{}\"\n{keys}\n",
                path.display()
            )
        });
        let sections: String = sections.collect();
        scene
            .host
            .write_config(&format!("[agent]\nmetrics = \"off\"\n{sections}"))?;
        Ok(scene)
    }

    fn started(keys: &str) -> Result<Self> {
        let mut scene = Self::new(keys)?;
        scene.host.start_agent()?;
        Ok(scene)
    }

    fn each(&self) -> impl Iterator<Item = (&'static str, &Netns)> {
        NAMES.into_iter().zip(&self.netns)
    }

    fn service(&self, name: &str) -> Result<Service> {
        Ok(self.host.status()?.service(name)?.clone())
    }

    fn deploy(&self, service: &str, generation: &str, server: &[String]) -> Result<()> {
        let mut arguments = vec!["deploy", "--service", service, "--generation", generation];
        arguments.push("--");
        arguments.extend(server.iter().map(String::as_str));
        self.host.ok(&arguments).map(drop)
    }

    fn promote(&self, service: &str, generation: &str) -> Result<()> {
        let promote = ["promote", "--service", service, generation];
        self.host.ok(&promote).map(drop)
    }
}

/// Fails unless 20 new connections in the namespace are answered by `generation`.
fn expect(netns: &Netns, generation: &str) -> Result<()> {
    let answers = Waiting::open(netns, target()?, 20)?.answers()?;
    let wrong = answers.iter().find(|a| a.generation != generation);
    ensure!(wrong.is_none(), "not {generation}: {wrong:?}");
    Ok(())
}

#[test]
fn the_same_address_twice() -> Result<()> {
    let mut scene = Scene::started("health = { http = \"/\" }")?;
    for (name, netns) in scene.each() {
        let generation = format!("{name}-1");
        scene.deploy(name, &generation, &plain(&generation)?)?;
        scene.promote(name, &generation)?;
        expect(netns, &generation)?;
    }
    let shown = scene.host.ok(&["status"])?;
    for (name, netns) in scene.each() {
        let line = format!("{name}  on {LISTEN}  in {}", netns.path().display());
        ensure!(shown.stdout.contains(&line), "{}", shown.describe());
    }
    let [blue, green] = &scene.netns;
    let there = Load::start(green, Plan::new(target()?).workers(8))?;
    let here = Load::start(blue, Plan::new(target()?).workers(8))?;
    for number in 2..=4 {
        let generation = format!("blue-{number}");
        let server = Kind::Plain.command(scene.host.directory(), &generation, 8080)?;
        scene.deploy("blue", &generation, &server)?;
        scene.promote("blue", &generation)?;
        expect(blue, &generation)?;
        here.wait_more(200, LIMIT)?;
        there.wait_more(200, LIMIT)?;
    }
    scene.host.kill_agent()?;
    scene.host.start_agent()?;
    let [blue, green] = &scene.netns;
    let rollback = ["rollback", "--service", "blue"];
    scene.host.ok(&rollback)?;
    expect(blue, "blue-3")?;
    expect(green, "green-1")?;
    here.wait_more(200, LIMIT)?;
    there.wait_more(200, LIMIT)?;
    let (here, there) = (here.stop()?, there.stop()?);
    here.expect_none_lost()?;
    there.expect_none_lost()?;
    ensure!(
        there.by("green-1") == there.requests(),
        "others answered in green: {there:?}"
    );
    ensure!(here.by("green-1") == 0, "green answered in blue: {here:?}");
    let promotes = scene.service("green")?;
    ensure!(
        promotes.active.as_deref() == Some("green-1"),
        "{promotes:#?}"
    );
    // What clients waited for is measured in either, though the ports are the same.
    for (name, _) in scene.each() {
        let service = scene.service(name)?;
        let unmeasured = "latency is not measured";
        if let Some(why) = service.warnings.iter().find(|w| w.starts_with(unmeasured)) {
            return report::skip("namespaces, latency", why);
        }
        let active = service.active.clone().context("nobody is active")?;
        let measured = service.generation(&active)?.latency.queue_wait.count;
        ensure!(measured > 0, "{name}: {service:#?}");
    }
    Ok(())
}

/// A server that runs in a namespace already, in a cgroup of its own, as a container does.
#[test]
fn a_running_server_is_adopted_where_it_is() -> Result<()> {
    let mut scene = Scene::new("adopt = true")?;
    let units = Units::new(&scene.host)?;
    let [blue, _] = &scene.netns;
    let server = Kind::NginxReuseport.command(scene.host.directory(), "gen1", 8080)?;
    let enter = format!("--net={}", blue.path().display());
    let words = ["nsenter", &enter, "--"].map(str::to_owned).into_iter();
    let line: Vec<String> = words.chain(server).collect();
    let running = units.start(&scene.host, "container", &line)?;
    let target = target()?;
    wait::until_true("the server answers", LIMIT, || {
        Waiting::open(blue, target, 1)
            .and_then(Waiting::answers)
            .is_ok()
    })?;
    scene.host.start_agent()?;
    let load = Load::start(&scene.netns[0], Plan::new(target).workers(8))?;
    let pid = running.pid().to_string();
    let adopt = |service: &str| {
        let adopt = [
            "adopt",
            "--service",
            service,
            "--generation",
            "gen1",
            "--pid",
            &pid,
        ];
        scene.host.hotlb(&adopt)
    };
    adopt("green")?
        .expect_code(6)?
        .expect_one_line_error()?
        .expect_stderr(&["another network namespace", "netns"])?;
    adopt("blue")?.expect_success()?;
    load.wait_more(300, LIMIT)?;
    let next = Kind::NginxReuseport.command(scene.host.directory(), "gen2", 8080)?;
    scene.deploy("blue", "gen2", &next)?;
    scene.promote("blue", "gen2")?;
    expect(&scene.netns[0], "gen2")?;
    load.stop()?.expect_none_lost()?;
    // Nothing of it is in the other one.
    ensure!(scene.service("green")?.active.is_none());
    Ok(())
}

/// `hotlb exec` from the agent's namespace: the server begins in the service's.
#[test]
fn what_is_executed_enters() -> Result<()> {
    let scene = Scene::started("")?;
    let mut line = exec_line(&scene.host, "gen1", &plain("gen1")?);
    let at = line
        .iter()
        .position(|word| word == "--generation")
        .context("no such word")?;
    line.splice(at..at, ["--service".to_owned(), "blue".to_owned()]);
    let _supervisor = supervise(&scene.host, &line)?;
    wait::until_true("it is ready", LIMIT, || {
        let service = scene.service("blue");
        service.is_ok_and(|blue| blue.generation("gen1").is_ok_and(|g| g.state == "ready"))
    })?;
    scene.promote("blue", "gen1")?;
    expect(&scene.netns[0], "gen1")
}

#[test]
fn a_namespace_that_is_not_there_is_an_error() -> Result<()> {
    let scene = Scene::new("")?;
    let file = scene.host.directory().join("no-namespace");
    fs::write(&file, "")?;
    let cases = [
        (Path::new("/run/netns/hotlb-no-such"), "No such file"),
        (&file, "it is not a network namespace"),
        (Path::new("blue"), "is not an absolute path"),
    ];
    for (path, says) in cases {
        scene.host.write_config(&format!(
            "[agent]\nmetrics = \"off\"\n[service.web]\nlisten = [\"{LISTEN}\"]\nnetns = \"{}\"\n",
            path.display()
        ))?;
        scene
            .host
            .hotlb(&["agent"])?
            .expect_code(78)?
            .expect_last_error(&["web", "netns", says])?;
    }
    Ok(())
}

/// `ip netns del` takes the name away; the namespace is there while something runs in it.
#[test]
fn a_namespace_without_a_name_serves_on() -> Result<()> {
    let mut scene = Scene::started("")?;
    scene.deploy("blue", "gen1", &plain("gen1")?)?;
    scene.promote("blue", "gen1")?;
    let lost = scene.netns[0].path();
    let target = target()?;
    let load = Load::start(&scene.netns[0], Plan::new(target).workers(4))?;
    load.wait_more(100, LIMIT)?;
    // As a name that was bound somewhere else: the one that is configured is gone.
    let config = fs::read_to_string(scene.host.config())?;
    let gone = lost.with_extension("gone");
    let config = config.replace(&lost.display().to_string(), &gone.display().to_string());
    scene.host.write_config(&config)?;
    scene.host.kill_agent()?;
    scene.host.start_agent()?;
    load.wait_more(100, LIMIT)?;
    scene.deploy("blue", "gen2", &plain("gen2")?)?;
    scene.promote("blue", "gen2")?;
    expect(&scene.netns[0], "gen2")?;
    load.stop()?.expect_none_lost()
}
