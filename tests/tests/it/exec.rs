//! Promise: a server that somebody else supervises is a generation as any other. The supervisor keeps its process; hotlb
//! has its traffic.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Result, ensure};
use hotlb_tests::{
    api, cgroups,
    command::{self, Running},
    host::Host,
    load::Plan,
    process::{Process, kill_outright},
    report,
    servers::{CommandLine, Kind, Plain, nginx},
    units::{Units, exec_line, supervise},
    wait,
    waiting::Waiting,
};

const TARGET: &str = "127.0.0.1:8080";
const LIMIT: Duration = Duration::from_secs(15);
const KEYS: &str =
    "listen = [\"0.0.0.0:8080\"]\ndrain = { signal_after = \"1s\", deadline = \"5s\" }";

fn target() -> Result<SocketAddr> {
    Ok(TARGET.parse()?)
}

fn plain(generation: &str) -> Result<CommandLine> {
    Plain::new(generation).listen("0.0.0.0:8080").command()
}

/// A supervised generation, ready.
fn supervised(host: &Host, generation: &str, server: &[String]) -> Result<Process> {
    let supervisor = supervise(host, &exec_line(host, generation, server))?;
    host.wait_state(generation, &["ready"])?;
    Ok(supervisor)
}

/// `hotlb exec` from a shell, with its standard streams kept.
fn exec(host: &Host, generation: &str, server: &[String]) -> Result<Running> {
    let line = exec_line(host, generation, server);
    let arguments = line.iter().skip(1);
    command::start(host.command(host.binary()).args(arguments))
}

fn story(kind: Kind) -> Result<()> {
    let host = Host::with_service(KEYS)?;
    let server = |generation: &str| kind.command(host.directory(), generation, 8080);
    let _first = supervised(&host, "gen1", &server("gen1")?)?;
    host.promote("gen1")?;
    let load = host.load(Plan::new(target()?))?;
    load.wait_more(500, LIMIT)?;
    let _second = supervised(&host, "gen2", &server("gen2")?)?;
    for _ in 0..3 {
        host.promote("gen2")?;
        let goal = load.so_far().by("gen2") + 300;
        load.wait_for("answers of gen2", LIMIT, |o| o.by("gen2") > goal)?;
        host.ok(&["rollback"])?;
        let goal = load.so_far().by("gen1") + 300;
        load.wait_for("answers of gen1", LIMIT, |o| o.by("gen1") > goal)?;
    }
    let web = host.web()?;
    ensure!(
        web.generations.iter().all(|g| g.origin == "exec"),
        "{web:#?}"
    );
    web.steering.check_balance()?;
    let outcome = load.stop()?;
    report::figure("exec: requests", outcome.requests());
    report::figure("exec: failed", outcome.failed);
    outcome.expect_none_lost()
}

#[test]
fn nginx_under_a_shell_supervisor() -> Result<()> {
    if nginx::binary().is_none() {
        return report::skip("exec: nginx", "nginx is not installed");
    }
    story(Kind::Nginx)
}

#[test]
fn plain_servers_under_a_shell_supervisor() -> Result<()> {
    story(Kind::Plain)
}

/// The process stays the one the supervisor started, with its streams, its directory and its environment.
#[test]
fn the_process_becomes_the_server() -> Result<()> {
    let host = Host::with_service(KEYS)?;
    let server = Plain::new("gen1")
        .listen("0.0.0.0:8080")
        .option("--stderr-lines", 1)
        .command()?;
    let line = exec_line(&host, "gen1", &server);
    let mut command = host.command(&line[0]);
    command
        .args(&line[1..])
        .env("NOTIFY_SOCKET", "/run/somebody/notify")
        .env("COLOUR", "red");
    let mut server = command::start(&mut command)?;
    let gen1 = host.wait_state("gen1", &["ready"])?;
    ensure!(
        gen1.pid == i32::try_from(server.id()).ok(),
        "another process: {gen1:#?}"
    );
    let environment = std::fs::read_to_string(format!("/proc/{}/environ", server.id()))?;
    for expected in [
        "NOTIFY_SOCKET=/run/somebody/notify",
        "COLOUR=red",
        "HOTLB_SERVICE=web",
        "HOTLB_GENERATION=gen1",
    ] {
        ensure!(environment.contains(expected), "{expected}: {environment}");
    }
    ensure!(!environment.contains("HOTLB_RUNTIME_DIR"), "{environment}");
    ensure!(!server.stderr()?.is_empty(), "its stderr went elsewhere");
    let cgroup = cgroups::of(gen1.process()?)?;
    ensure!(
        cgroup.starts_with(host.cgroup()?),
        "it is in {}",
        cgroup.display()
    );
    host.promote("gen1")?;
    host.expect_answers(target()?, 20, "gen1")
}

/// In a unit the server stays below the unit's cgroup, and shares the port all the same.
#[test]
fn a_unit_keeps_its_processes() -> Result<()> {
    let host = Host::with_service(KEYS)?;
    let units = Units::new(&host)?;
    let mut servers = Vec::new();
    for generation in ["gen1", "gen2"] {
        let unit = format!("web@{generation}.service");
        let line = exec_line(&host, generation, &plain(generation)?);
        let server = units.start(&host, &unit, &line)?;
        let found = host.wait_state(generation, &["ready"])?;
        ensure!(found.process()? == server.pid(), "{found:#?}");
        let cgroup = cgroups::of(server.pid())?;
        let below = cgroup
            .parent()
            .is_some_and(|parent| parent.ends_with(&unit));
        ensure!(below, "it is in {}", cgroup.display());
        servers.push(server);
    }
    host.promote("gen1")?;
    let load = host.load(Plan::new(target()?).workers(8))?;
    load.wait_more(200, LIMIT)?;
    host.promote("gen2")?;
    host.ok(&["stop", "gen1"])?;
    ensure!(
        servers[0].wait(LIMIT)?.success(),
        "gen1 was not ended in order"
    );
    let unit = units.cgroup("web@gen1.service")?;
    ensure!(cgroups::is_empty(&unit), "something is left in it");
    ensure!(
        !std::fs::read_dir(&unit)?
            .flatten()
            .any(|entry| entry.path().is_dir()),
        "hotlb's cgroup is left in it"
    );
    host.expect_answers(target()?, 20, "gen2")?;
    // A cold rollback needs whoever starts it.
    host.hotlb(&["rollback"])?
        .expect_code(6)?
        .expect_one_line_error()?
        .expect_stderr(&["gen1", "supervisor", "hotlb promote gen1"])?;
    let line = exec_line(&host, "gen1", &plain("gen1")?);
    let _again = units.start(&host, "web@gen1.service", &line)?;
    host.wait_state("gen1", &["ready"])?;
    host.ok(&["rollback"])?;
    host.expect_answers(target()?, 20, "gen1")?;
    load.stop()?.expect_none_lost()
}

/// Killed, the active one is started again by its supervisor and is active again; who came meanwhile is served.
#[test]
fn the_active_one_is_started_again() -> Result<()> {
    let host = Host::with_service(KEYS)?;
    let _supervisor = supervised(&host, "gen1", &plain("gen1")?)?;
    host.promote("gen1")?;
    for _ in 0..3 {
        let before = host.generation("gen1")?;
        kill_outright(before.process()?)?;
        let waiting = Waiting::open(host.netns(), target()?, 20)?;
        waiting.expect_by("gen1")?;
        wait::until_true("gen1 is active again", LIMIT, || {
            host.generation("gen1")
                .is_ok_and(|now| now.state == "active" && now.pid != before.pid)
        })?;
        let now = host.generation("gen1")?;
        ensure!(
            now.reason
                .as_ref()
                .is_some_and(|r| r.contains("supervisor")),
            "{now:#?}"
        );
    }
    Ok(())
}

/// Its workers outlive their killed master: they finish what they have, the next life has the clients.
#[test]
fn workers_of_a_killed_master_do_not_stay() -> Result<()> {
    if nginx::binary().is_none() {
        return report::skip("exec: orphans", "nginx is not installed");
    }
    let host = Host::with_service(KEYS)?;
    let server = Kind::NginxReuseport.command(host.directory(), "gen1", 8080)?;
    let _supervisor = supervised(&host, "gen1", &server)?;
    host.promote("gen1")?;
    let before = host.generation("gen1")?;
    let orphaned = cgroups::of(before.process()?)?;
    kill_outright(before.process()?)?;
    wait::until_true("gen1 is active again", LIMIT, || {
        host.generation("gen1")
            .is_ok_and(|now| now.state == "active" && now.pid != before.pid)
    })?;
    wait::until_true("the orphans are gone", LIMIT, || !orphaned.exists())?;
    host.expect_answers(target()?, 20, "gen1")
}

/// Somebody else has taken over: the restarted one is ready, no more.
#[test]
fn a_restarted_one_does_not_take_over_from_another() -> Result<()> {
    let host = Host::with_service(KEYS)?;
    let _first = supervised(&host, "gen1", &plain("gen1")?)?;
    let _second = supervised(&host, "gen2", &plain("gen2")?)?;
    host.promote("gen1")?;
    let load = host.load(Plan::new(target()?).workers(4))?;
    load.wait_more(50, LIMIT)?;
    let before = host.generation("gen1")?;
    kill_outright(before.process()?)?;
    wait::until_true("gen1 is ready again", LIMIT, || {
        host.generation("gen1")
            .is_ok_and(|now| now.state == "ready" && now.pid != before.pid)
    })?;
    let web = host.web()?;
    ensure!(web.active.as_deref() == Some("gen2"), "{web:#?}");
    ensure!(web.fallback.as_deref() == Some("gen1"), "{web:#?}");
    host.expect_answers(target()?, 20, "gen2")?;
    drop(load);
    Ok(())
}

#[test]
fn sockets_are_inherited_and_ready_is_said() -> Result<()> {
    let host = Host::with_service(&format!("mode = \"inherit\"\nnotify = true\n{KEYS}"))?;
    let server = |name: &str| {
        Plain::new(name)
            .flag("--inherit")
            .flag("--notify")
            .command()
    };
    let _first = supervised(&host, "gen1", &server("gen1")?)?;
    host.promote("gen1")?;
    let load = host.load(Plan::new(target()?).workers(8))?;
    load.wait_more(100, LIMIT)?;
    let _second = supervised(&host, "gen2", &server("gen2")?)?;
    host.promote("gen2")?;
    load.wait_for("answers of gen2", LIMIT, |outcome| outcome.by("gen2") > 100)?;
    load.stop()?.expect_none_lost()
}

/// The listeners are root's no more once the server is another user's.
#[test]
fn the_service_s_user_is_set() -> Result<()> {
    let host = Host::with_service(&format!("user = \"65534\"\n{KEYS}"))?;
    let mut server = plain("gen1")?;
    server[0] = host
        .copy_of(std::path::Path::new(&server[0]))?
        .display()
        .to_string();
    let _server = exec(&host, "gen1", &server)?;
    let gen1 = host.wait_state("gen1", &["ready"])?;
    ensure!(
        gen1.listeners
            .iter()
            .all(|listener| listener.uid == 65_534 && listener.steered),
        "{gen1:#?}"
    );
    let status = std::fs::read_to_string(format!("/proc/{}/status", gen1.process()?))?;
    ensure!(status.contains("Uid:\t65534\t65534"), "{status}");
    Ok(())
}

#[test]
fn an_agent_killed_meanwhile_finds_them() -> Result<()> {
    let mut host = Host::with_service(KEYS)?;
    let units = Units::new(&host)?;
    let _first = supervised(&host, "gen1", &plain("gen1")?)?;
    host.promote("gen1")?;
    let load = host.load(Plan::new(target()?).workers(8))?;
    load.wait_more(100, LIMIT)?;
    let slow = Plain::new("gen2")
        .listen("0.0.0.0:8080")
        .option("--listen-after-ms", 1_000)
        .command()?;
    let second = units.start(&host, "web@gen2.service", &exec_line(&host, "gen2", &slow))?;
    host.wait_state("gen2", &["starting"])?;
    // It is so before `hotlb exec` has its answer, without which it becomes no server.
    let comm = format!("/proc/{}/comm", second.pid());
    wait::until_true("the process becomes the server", LIMIT, || {
        std::fs::read_to_string(&comm).is_ok_and(|name| name == "plain-server\n")
    })?;
    host.kill_agent()?;
    load.wait_more(100, LIMIT)?;
    host.start_agent()?;
    let web = host.web()?;
    ensure!(web.active.as_deref() == Some("gen1"), "{web:#?}");
    // What was being found out is found out all the same.
    let gen2 = host.wait_state("gen2", &["ready"])?;
    ensure!(gen2.origin == "exec", "{gen2:#?}");
    host.promote("gen2")?;
    host.kill_agent()?;
    host.start_agent()?;
    load.wait_for("answers of gen2", LIMIT, |outcome| outcome.by("gen2") > 100)?;
    host.ok(&["rollback"])?;
    host.expect_answers(target()?, 20, "gen1")?;
    load.stop()?.expect_none_lost()
}

/// Its supervisor's process is not killed, and gets no client.
#[test]
fn one_that_does_not_serve_is_its_supervisor_s() -> Result<()> {
    let host = Host::with_service(&format!("ready_timeout = \"1s\"\n{KEYS}"))?;
    let _first = supervised(&host, "gen1", &plain("gen1")?)?;
    host.promote("gen1")?;
    let sick = Plain::new("gen2").flag("--never-listen").command()?;
    let mut server = exec(&host, "gen2", &sick)?;
    let gen2 = host.wait_state("gen2", &["failed"])?;
    ensure!(
        gen2.reason
            .as_ref()
            .is_some_and(|r| r.contains("nothing listens") && r.contains("supervisor")),
        "{gen2:#?}"
    );
    ensure!(!server.ended()?, "it was killed");
    refused(&host, "gen2", &plain("gen2")?, 6, &["gen2", "failed"])?;
    host.expect_answers(target()?, 20, "gen1")?;
    host.ok(&["stop", "gen2"])?;
    server.finish(LIMIT)?;
    let _again = exec(&host, "gen2", &plain("gen2")?)?;
    host.wait_state("gen2", &["ready"])?;
    host.expect_answers(target()?, 20, "gen1")
}

fn refused(
    host: &Host,
    generation: &str,
    server: &[String],
    code: i32,
    parts: &[&str],
) -> Result<()> {
    let run = exec(host, generation, server)?.finish(LIMIT)?;
    run.expect_code(code)?
        .expect_one_line_error()?
        .expect_stderr(parts)
        .map(drop)
}

#[test]
fn what_cannot_be_done_is_said() -> Result<()> {
    let mut host = Host::with_service(KEYS)?;
    let _first = supervised(&host, "gen1", &plain("gen1")?)?;
    host.promote("gen1")?;
    host.deploy("gen2", &plain("gen2")?)?;
    let line = plain("gen3")?;
    for taken in ["gen1", "gen2"] {
        refused(&host, taken, &line, 6, &[taken])?;
    }
    for name in ["../up", "a/b", "white space"] {
        // Not 2, which any server may end with: its supervisor is told not to try again by this code.
        refused(&host, name, &line, 78, &["name"])?;
    }
    let missing = ["/no/such/server".to_owned()];
    refused(&host, "gen3", &missing, 1, &["/no/such/server"])?;
    let no_program = ["/etc/passwd".to_owned()];
    refused(&host, "gen3", &no_program, 1, &["/etc/passwd"])?;
    let arguments = ["exec", "--service", "nope", "--", "/bin/true"];
    host.hotlb(&arguments)?
        .expect_code(5)?
        .expect_stderr(&["nope"])?;
    host.hotlb(&["exec"])?.expect_code(2)?;
    ensure!(
        host.generation("gen3").is_err(),
        "a refused one is in the books"
    );

    let short = exec(&host, "gen3", &["/bin/true".to_owned()])?.finish(LIMIT)?;
    short.expect_code(0)?;
    host.wait_state("gen3", &["failed"])?;
    let answer = api::request(
        &host.socket(),
        "POST",
        "/v1/services/web/exec",
        api::VERSION,
        "{\"command\":7}",
    )?;
    ensure!(answer.code == 400, "{answer:?}");
    host.expect_answers(target()?, 20, "gen1")?;
    host.kill_agent()?;
    refused(&host, "gen4", &line, 3, &["no agent"])?;
    host.start_agent()?;
    host.expect_answers(target()?, 20, "gen1")
}

/// A user who may operate may still not become a generation: it could not become the service's user.
#[test]
fn only_root_becomes_a_generation() -> Result<()> {
    let host = Host::with_config(&format!(
        "[agent]\noperators = [\"nobody\"]\n[service.web]\n{KEYS}\n"
    ))?;
    for path in [host.directory().join("run"), host.socket()] {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
    }
    let hotlb = host.copy_of(host.binary())?.display().to_string();
    let line = [
        "--reuid=65534",
        "--clear-groups",
        &hotlb,
        "exec",
        "--",
        "/bin/true",
    ];
    let run = command::run(host.command("setpriv").args(line), LIMIT)?;
    run.expect_code(4)?
        .expect_one_line_error()?
        .expect_stderr(&["nobody", "root", "User="])
        .map(drop)
}
