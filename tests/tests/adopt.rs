//! Promise: a server that runs already, and shares its port, is taken over without a restart and without a client that
//! notices; one that does not share it is left alone.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{
    cgroups,
    host::Host,
    load::{Load, Plan},
    process::Process,
    report,
    servers::{CommandLine, Kind, Nginx, nginx},
    units::{self, Units},
    wait,
    waiting::Waiting,
};
use nix::sys::signal::Signal;

const TARGET: &str = "127.0.0.1:8080";
const LIMIT: Duration = Duration::from_secs(15);
const UNIT: &str = "nginx.service";
const CONFIG: &str = "[service.web]\nlisten = [\"0.0.0.0:8080\"]\nadopt = true\n\
                      drain = { signal_after = \"1s\", deadline = \"5s\" }\n";

fn target() -> Result<SocketAddr> {
    Ok(TARGET.parse()?)
}

fn sharing(host: &Host, name: &str) -> Result<CommandLine> {
    Kind::NginxReuseport.command(host.directory(), name, 8080)
}

/// A server in a unit of its own, under load, and an agent that waits to adopt it.
struct Scene {
    host: Host,
    units: Units,
    server: Process,
    load: Load,
}

impl Scene {
    fn with(server: impl Fn(&Host) -> Result<CommandLine>, config: &str) -> Result<Self> {
        let mut host = Host::without_agent()?;
        host.write_config(config)?;
        let units = Units::new(&host)?;
        let line = server(&host)?;
        let server = units.start(&host, UNIT, &line)?;
        let target = target()?;
        wait::until_true("the server answers", LIMIT, || host.ask(target).is_ok())?;
        let load = host.load(Plan::new(target))?;
        load.wait_more(500, LIMIT)?;
        host.start_agent()?;
        Ok(Self {
            host,
            units,
            server,
            load,
        })
    }

    /// nginx that shares its port.
    fn new() -> Result<Self> {
        Self::with(|host| sharing(host, "gen1"), CONFIG)
    }

    fn pid(&self) -> String {
        self.server.pid().to_string()
    }

    /// The command must be refused with `code`, in one line that contains `parts`, and change nothing.
    fn refused(&self, arguments: &[&str], code: i32, parts: &[&str]) -> Result<()> {
        self.host
            .hotlb(arguments)?
            .expect_code(code)?
            .expect_one_line_error()?
            .expect_stderr(parts)?;
        let web = self.host.web()?;
        ensure!(web.awaits_adopt && web.active.is_none(), "{web:#?}");
        self.load.wait_more(100, LIMIT)
    }

    fn adopt(&self) -> Result<()> {
        let adopted = self
            .host
            .ok(&["adopt", "--generation", "gen1", "--unit", UNIT])?;
        report::figure("adopt: command, ms", adopted.took.as_millis());
        let web = self.host.web()?;
        ensure!(!web.awaits_adopt, "{web:#?}");
        ensure!(web.active.as_deref() == Some("gen1"), "{web:#?}");
        let gen1 = web.generation("gen1")?;
        ensure!(
            gen1.origin == "adopted" && gen1.state == "active",
            "{gen1:#?}"
        );
        ensure!(gen1.process()? == self.server.pid(), "{gen1:#?}");
        ensure!(gen1.listeners.len() == 2, "{gen1:#?}");
        ensure!(gen1.listeners.iter().all(|l| l.steered), "{gen1:#?}");
        Ok(())
    }

    /// gen2 is deployed and promoted; the adopted one ends when it is told to.
    fn upgrade(&mut self) -> Result<()> {
        self.host.deploy("gen2", &sharing(&self.host, "gen2")?)?;
        self.host.promote("gen2")?;
        self.load
            .wait_for("answers of gen2", LIMIT, |outcome| outcome.by("gen2") > 500)?;
        if self.host.generation("gen1")?.state != "stopped" {
            self.host.ok(&["stop", "gen1"])?;
        }
        let ended = self.server.wait(LIMIT)?;
        ensure!(ended.success(), "the adopted server ended with {ended}");
        ensure!(
            self.units.cgroup(UNIT)?.is_dir(),
            "the unit's cgroup was removed"
        );
        self.host.expect_answers(target()?, 20, "gen2")
    }

    fn finish(self) -> Result<()> {
        let web = self.host.web()?;
        web.steering.check_balance()?;
        for exit in ["parked", "unselected"] {
            ensure!(web.steering.exit(exit)? == 0, "{:?}", web.steering);
        }
        let outcome = self.load.stop()?;
        report::figure("adopt: requests", outcome.requests());
        report::figure("adopt: failed", outcome.failed);
        outcome.expect_none_lost()
    }
}

#[test]
fn nginx_is_adopted_and_upgraded_under_load() -> Result<()> {
    if nginx::binary().is_none() {
        return report::skip("adopt", "nginx is not installed");
    }
    let mut scene = Scene::new()?;
    let web = scene.host.web()?;
    ensure!(web.awaits_adopt && web.groups.is_empty(), "{web:#?}");
    let says = format!("hotlb adopt --service web --generation gen1 --unit {UNIT}");
    ensure!(web.warnings.iter().any(|w| w.contains(&says)), "{web:#?}");

    let silent = Waiting::silent(scene.host.netns(), target()?, 20)?;
    scene.adopt()?;
    // Connections that are older than the adoption are connections of the generation.
    let live = scene.host.generation("gen1")?.connections.live;
    ensure!(live >= 20, "{live} connections live");
    scene.load.wait_more(1_000, LIMIT)?;
    drop(silent);
    scene.upgrade()?;
    let counts = scene.host.generation("gen1")?.connections;
    ensure!(
        counts.live == 0 && counts.opened == counts.closed,
        "{counts:?}"
    );
    scene.finish()
}

/// The drain waits for connections that are older than the adoption.
#[test]
fn connections_of_before_are_drained() -> Result<()> {
    let scene = Scene::new()?;
    let silent = Waiting::silent(scene.host.netns(), target()?, 5)?;
    scene.adopt()?;
    scene.host.deploy("gen2", &sharing(&scene.host, "gen2")?)?;
    let promote = scene.host.start_hotlb(&["promote", "gen2"])?;
    let gen1 = scene.host.wait_state("gen1", &["draining"])?;
    ensure!(gen1.connections.live >= 5, "{gen1:#?}");
    drop(silent);
    promote.finish(LIMIT)?.expect_success()?;
    let gen1 = scene.host.generation("gen1")?;
    ensure!(gen1.state == "standby", "{gen1:#?}");
    scene.host.ok(&["rollback"])?;
    scene.host.expect_answers(target()?, 20, "gen1")?;
    scene.finish()
}

#[test]
fn an_agent_killed_after_it_adopted_costs_nobody_anything() -> Result<()> {
    let mut scene = Scene::new()?;
    let silent = Waiting::silent(scene.host.netns(), target()?, 3)?;
    scene.adopt()?;
    for _ in 0..3 {
        scene.host.kill_agent()?;
        scene.load.wait_more(300, LIMIT)?;
        scene.host.start_agent()?;
        let web = scene.host.web()?;
        ensure!(
            !web.awaits_adopt && web.active.as_deref() == Some("gen1"),
            "{web:#?}"
        );
        let gen1 = web.generation("gen1")?;
        ensure!(
            gen1.origin == "adopted" && gen1.connections.live >= 3,
            "{gen1:#?}"
        );
        ensure!(gen1.listeners.iter().all(|l| l.steered), "{gen1:#?}");
    }
    drop(silent);
    scene.upgrade()?;
    scene.finish()
}

/// Killed while it waits, while it adopts, and right after: the server is steered wholly or not at all.
#[test]
fn an_agent_killed_while_it_adopts() -> Result<()> {
    let mut scene = Scene::new()?;
    for _ in 0..6 {
        if !scene.host.web()?.awaits_adopt {
            break;
        }
        let adopting =
            scene
                .host
                .start_hotlb(&["adopt", "--generation", "gen1", "--unit", UNIT])?;
        // As soon as the books know it, or it is over.
        wait::until_true("the adoption begins", LIMIT, || {
            scene.host.agent_log().contains("generation=\"gen1\"")
                || scene
                    .host
                    .web()
                    .is_ok_and(|web| !web.generations.is_empty())
        })?;
        scene.host.kill_agent()?;
        drop(adopting);
        scene.load.wait_more(200, LIMIT)?;
        scene.host.start_agent()?;
        scene.load.wait_more(200, LIMIT)?;
    }
    if scene.host.web()?.awaits_adopt {
        scene.adopt()?;
    }
    scene.upgrade()?;
    scene.finish()
}

#[test]
fn a_server_that_does_not_share_its_port_is_left_alone() -> Result<()> {
    let plain = |host: &Host| {
        Nginx::new("gen1")
            .listen("0.0.0.0:8080")
            .command(host.directory())
    };
    let scene = Scene::with(plain, CONFIG)?;
    let _open = Waiting::silent(scene.host.netns(), target()?, 7)?;
    for whom in [["--unit", UNIT], ["--pid", &scene.pid()]] {
        let arguments = [&["adopt", "--generation", "gen1"], &whom[..]].concat();
        scene.refused(
            &arguments,
            6,
            &[
                "nginx",
                "0.0.0.0:8080",
                "SO_REUSEPORT",
                "One restart is necessary",
                "systemctl stop nginx.service && hotlb upgrade --service web --generation gen1 -- ",
            ],
        )?;
    }
    let asked = scene
        .host
        .hotlb(&["adopt", "--unit", UNIT, "--output", "json"])?;
    let answer: serde_json::Value = serde_json::from_str(&asked.stdout)?;
    ensure!(answer["error"]["code"] == "not_sharing", "{answer}");
    let outcome = scene.load.stop()?;
    ensure!(outcome.by("gen1") == outcome.ok, "{outcome:#?}");
    outcome.expect_none_lost()
}

/// The one necessary restart, as the refusal tells it: from then on the port is hotlb's.
#[test]
fn a_port_that_is_free_at_last_is_taken() -> Result<()> {
    let mut scene = Scene::new()?;
    drop(scene.load);
    scene.server.signal(Signal::SIGQUIT)?;
    scene.server.wait(LIMIT)?;
    let web = scene.host.web()?;
    ensure!(web.awaits_adopt, "{web:#?}");
    scene.host.upgrade("gen1", &sharing(&scene.host, "gen1")?)?;
    let web = scene.host.web()?;
    ensure!(!web.awaits_adopt && web.groups.len() == 1, "{web:#?}");
    scene.host.expect_answers(target()?, 20, "gen1")
}

/// Its own supervisor starts it again in the same place: hotlb adopts it again, and whoever came meanwhile is served.
#[test]
fn an_adopted_server_that_its_supervisor_starts_again() -> Result<()> {
    let mut scene = Scene::new()?;
    scene.adopt()?;
    drop(scene.load);
    cgroups::kill(&scene.units.cgroup(UNIT)?)?;
    scene.server.wait(LIMIT)?;
    scene.host.wait_state("gen1", &["failed"])?;
    let waiting = Waiting::open(scene.host.netns(), target()?, 20)?;
    scene.server = scene
        .units
        .start(&scene.host, UNIT, &sharing(&scene.host, "gen1")?)?;
    let gen1 = scene.host.wait_state("gen1", &["active"])?;
    ensure!(gen1.process()? == scene.server.pid(), "{gen1:#?}");
    ensure!(
        waiting
            .answers()?
            .iter()
            .all(|answer| answer.generation == "gen1")
    );
    scene.host.deploy("gen2", &sharing(&scene.host, "gen2")?)?;
    scene.host.promote("gen2")?;
    scene.host.expect_answers(target()?, 20, "gen2")
}

#[test]
fn without_adopt_the_agent_does_not_start() -> Result<()> {
    let host = Host::without_agent()?;
    host.write_config("[service.web]\nlisten = [\"0.0.0.0:8080\"]\n")?;
    let units = Units::new(&host)?;
    let _server = units.start(&host, UNIT, &sharing(&host, "gen1")?)?;
    let target = target()?;
    wait::until_true("the server answers", LIMIT, || host.ask(target).is_ok())?;
    host.start_hotlb(&["agent"])?
        .finish(LIMIT)?
        .expect_code(7)?
        .expect_last_error(&["0.0.0.0:8080", "nginx", "adopt = true"])?;
    host.expect_answers(target, 20, "gen1")
}

#[test]
fn what_cannot_be_adopted_is_said() -> Result<()> {
    let mut scene = Scene::new()?;
    let says = &["nginx.service", "hotlb adopt"];
    let line = sharing(&scene.host, "gen2")?;
    let line: Vec<&str> = line.iter().map(String::as_str).collect();
    scene.refused(&[&["deploy", "--"], &line[..]].concat(), 6, says)?;
    scene.refused(&["promote", "gen1"], 6, says)?;
    scene.refused(&["rollback"], 6, says)?;

    scene.refused(&["adopt", "--pid", "4194304"], 5, &["4194304"])?;
    scene.refused(&["adopt", "--pid", "2"], 6, &["kernel"])?;
    scene.refused(&["adopt", "--unit", "no-such"], 5, &["no-such.service"])?;
    scene.refused(
        &["adopt", "--service", "nope", "--unit", UNIT],
        5,
        &["nope"],
    )?;
    scene.refused(
        &["adopt", "--generation", "../x", "--unit", UNIT],
        2,
        &["name"],
    )?;
    let pid = scene.pid();
    for both in [
        vec!["adopt"],
        vec!["adopt", "--pid", &pid, "--unit", UNIT],
        vec!["adopt", "--pid", "-1"],
        vec!["adopt", "--pid", "nginx"],
    ] {
        scene.host.hotlb(&both)?.expect_code(2)?;
    }
    strangers(&scene)?;

    scene.adopt()?;
    for taken in [
        vec!["adopt", "--generation", "gen1", "--unit", UNIT],
        vec!["adopt", "--generation", "gen2", "--pid", &pid],
    ] {
        let run = scene.host.hotlb(&taken)?.expect_code(6)?;
        run.expect_one_line_error()?.expect_stderr(&["gen1"])?;
    }
    let keeper = scene.host.keeper()?.context("no keeper")?.to_string();
    let run = scene
        .host
        .hotlb(&["adopt", "--pid", &keeper])?
        .expect_code(6)?;
    run.expect_one_line_error()?
        .expect_stderr(&["hotlb's own"])?;
    scene.load.wait_more(100, LIMIT)?;
    scene.host.kill_agent()?;
    let run = scene.host.hotlb(&["adopt", "--unit", UNIT])?;
    run.expect_code(3)?.expect_one_line_error()?;
    scene.host.start_agent()?;
    scene.finish()
}

/// Other processes than the server.
fn strangers(scene: &Scene) -> Result<()> {
    let host = &scene.host;
    let idle: Vec<String> = ["sleep", "1000"].map(str::to_owned).to_vec();
    let in_root = Process::start(
        host.command("sleep").arg("1000"),
        &host.directory().join("x"),
    )?;
    let pid = in_root.pid().to_string();
    scene.refused(&["adopt", "--pid", &pid], 6, &["root of the cgroup2 tree"])?;

    let silent = scene.units.start(host, "silent.service", &idle)?;
    let pid = silent.pid().to_string();
    wait::until_true("it is in its cgroup", LIMIT, || {
        cgroups::of(silent.pid()).is_ok_and(|path| path.ends_with("silent.service"))
    })?;
    scene.refused(
        &["adopt", "--pid", &pid],
        6,
        &["nothing listens on 0.0.0.0:8080", "no address at all"],
    )?;

    // As in a login session: somebody else is in the server's cgroup.
    let other = scene.units.start(host, UNIT, &idle)?;
    let beside = other.pid().to_string();
    wait::until_true("it is in the server's cgroup", LIMIT, || {
        cgroups::of(other.pid()).is_ok_and(|path| path.ends_with(UNIT))
    })?;
    let pid = scene.pid();
    scene.refused(
        &["adopt", "--pid", &pid],
        6,
        &["shares its cgroup", &beside, "--unit nginx.service"],
    )?;
    drop(other);

    // A worker is not the server.
    let workers = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    let worker = workers.split_whitespace().next().context("no worker")?;
    scene.refused(&["adopt", "--pid", worker], 6, &["shares its cgroup", &pid])?;

    let elsewhere = host.netns().sibling()?;
    let mut command = elsewhere.command("sleep");
    let distant = Process::start(command.arg("1000"), &host.directory().join("x"))?;
    let pid = distant.pid().to_string();
    let own = std::fs::read_link("/proc/self/ns/net")?;
    wait::until_true("it is in the other network", LIMIT, || {
        std::fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|netns| netns != own)
    })?;
    scene.refused(&["adopt", "--pid", &pid], 6, &["network namespace"])
}

#[test]
fn a_server_of_another_user_is_refused() -> Result<()> {
    let config = format!("{CONFIG}user = \"65534\"\n");
    let scene = Scene::with(|host| sharing(host, "gen1"), &config)?;
    scene.refused(&["adopt", "--unit", UNIT], 6, &["uid 0", "user ="])?;
    scene.load.stop()?.expect_none_lost()
}

#[test]
fn listeners_that_are_not_declared_are_refused() -> Result<()> {
    let two = |host: &Host| {
        Nginx::new("gen1")
            .listen("0.0.0.0:8080 reuseport")
            .listen("127.0.0.2:8080 reuseport")
            .command(host.directory())
    };
    let scene = Scene::with(two, CONFIG)?;
    scene.refused(
        &["adopt", "--unit", UNIT],
        6,
        &["127.0.0.2:8080", "not declared"],
    )?;
    scene.load.stop()?.expect_none_lost()
}

/// Two servers share the port: whoever is not adopted would get no client any more.
#[test]
fn a_port_that_two_servers_share_is_refused() -> Result<()> {
    let scene = Scene::new()?;
    let line = Nginx::new("other")
        .listen("0.0.0.0:8080 reuseport")
        .command(scene.host.directory())?;
    let other = scene.units.start(&scene.host, "other.service", &line)?;
    scene
        .load
        .wait_for("answers of the other", LIMIT, |outcome| {
            outcome.by("other") > 10
        })?;
    let pid = other.pid().to_string();
    scene.refused(&["adopt", "--unit", UNIT], 6, &["shared with", &pid])?;
    drop(other);
    drop(scene);
    Ok(())
}

/// A dual-stack server, and one that listens on both families apart.
#[test]
fn both_families() -> Result<()> {
    for (listen, lines) in [
        (
            "[\"0.0.0.0:8080\", \"[::]:8080\"]",
            vec!["0.0.0.0:8080 reuseport", "[::]:8080 reuseport ipv6only=on"],
        ),
        ("[\"[::]:8080\"]", vec!["[::]:8080 reuseport ipv6only=off"]),
    ] {
        let config = format!("[service.web]\nadopt = true\nlisten = {listen}\n");
        let server = |host: &Host| {
            let nginx = Nginx::new("gen1");
            let nginx = lines.iter().fold(nginx, |nginx, line| nginx.listen(line));
            nginx.command(host.directory())
        };
        let scene = Scene::with(server, &config)?;
        scene
            .host
            .ok(&["adopt", "--generation", "gen1", "--unit", UNIT])?;
        let line = lines
            .iter()
            .fold(Nginx::new("gen2"), |nginx, line| nginx.listen(line));
        scene
            .host
            .upgrade("gen2", &line.command(scene.host.directory())?)?;
        for target in [TARGET, "[::1]:8080"] {
            scene.host.expect_answers(target.parse()?, 20, "gen2")?;
        }
        scene.finish()?;
    }
    Ok(())
}

/// A supervisor's shell in the cgroup makes it nobody's own.
#[test]
fn a_server_in_its_shell_s_cgroup_is_refused() -> Result<()> {
    let mut host = Host::without_agent()?;
    host.write_config(CONFIG)?;
    let units = Units::new(&host)?;
    let line = sharing(&host, "gen1")?;
    let mut command = units::in_cgroup(
        &host,
        &units.cgroup("session-1.scope")?,
        &["sh", "-c", "\"$@\" & wait", "sh"].map(str::to_owned),
    );
    let shell = Process::start(command.args(&line), &host.directory().join("unit.log"))?;
    let target = target()?;
    wait::until_true("the server answers", LIMIT, || host.ask(target).is_ok())?;
    host.start_agent()?;
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", shell.pid()))?;
    let server = children.split_whitespace().next().context("no server")?;
    host.hotlb(&["adopt", "--pid", server])?
        .expect_code(6)?
        .expect_one_line_error()?
        .expect_stderr(&["shares its cgroup", "sh (pid", "systemd-run"])?;
    host.expect_answers(target, 20, "gen1")
}
