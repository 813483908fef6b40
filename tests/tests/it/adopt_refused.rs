//! Promise: a running server that cannot be adopted is left as it is, and what is in the way is said.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{
    adoption::{CONFIG, Scene, UNIT, sharing, target},
    cgroups,
    host::Host,
    process::Process,
    servers::Nginx,
    units::{self, Units},
    wait,
    waiting::Waiting,
};

const LIMIT: Duration = Duration::from_secs(15);

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
