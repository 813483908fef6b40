//! Promise: a server that runs already, and shares its port, is taken over without a restart and without a client that
//! notices.

use std::{fs, time::Duration};

use anyhow::{Result, ensure};
use hotlb_tests::{
    adoption::{Scene, TARGET, UNIT, sharing, target},
    cgroups,
    host::Host,
    process::Process,
    report,
    servers::{Nginx, nginx},
    units::in_cgroup,
    wait,
    waiting::Waiting,
};
use nix::sys::signal::{Signal, kill};

const LIMIT: Duration = Duration::from_secs(15);

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

/// Nothing of hotlb's outlives the agent in an adopted server: without the ledger the next agent would not know that its
/// listeners are the service's, and refuse to start. The ledger is tried again, and then it goes.
#[test]
fn what_cannot_be_written_down_is_not_adopted() -> Result<()> {
    let mut scene = Scene::new()?;
    let ledger = scene.host.directory().join("state/web.json");
    fs::remove_file(&ledger)?;
    // In its way, also for root.
    fs::create_dir_all(ledger.join("in the way"))?;
    let adopt = ["adopt", "--generation", "gen1", "--unit", UNIT];
    let refused = scene.host.hotlb(&adopt)?.expect_code(7)?;
    refused.expect_stderr(&["write the ledger", "web.json"])?;
    let warns = |host: &Host| {
        let status = host.ok(&["status"]);
        status.is_ok_and(|run| run.stdout.contains("the ledger cannot be written"))
    };
    ensure!(warns(&scene.host), "status says nothing");
    fs::remove_dir_all(&ledger)?;
    wait::until_true("the ledger is written again", LIMIT, || {
        ledger.is_file() && !warns(&scene.host)
    })?;
    scene.adopt()?;
    scene.upgrade()?;
    scene.finish()
}

/// It is in another network, as a container's is.
#[test]
fn a_unit_of_the_same_name_in_a_container_is_another_one() -> Result<()> {
    let scene = Scene::new()?;
    let container = scene.host.netns().sibling()?;
    let cgroup = scene.units.cgroup(&format!("container/{UNIT}"))?;
    let net = format!("--net={}", container.path().display());
    let line = ["nsenter", &net, "sleep", "60"].map(str::to_owned);
    let mut command = in_cgroup(&scene.host, &cgroup, &line);
    let other = Process::start(&mut command, &scene.host.directory().join("other.log"))?;
    let comm = format!("/proc/{}/comm", other.pid());
    wait::until_true("the container's service runs", LIMIT, || {
        fs::read_to_string(&comm).is_ok_and(|name| name == "sleep\n")
    })?;
    scene.adopt()?;
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
    waiting.expect_by("gen1")?;
    scene.host.deploy("gen2", &sharing(&scene.host, "gen2")?)?;
    scene.host.promote("gen2")?;
    scene.host.expect_answers(target()?, 20, "gen2")
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

/// Its first process is killed, its workers serve on. hotlb cannot tell them from what their supervisor may start there
/// next, and says so instead of "nothing is left".
#[test]
fn what_outlives_its_first_process_is_named() -> Result<()> {
    let scene = Scene::new()?;
    scene.adopt()?;
    kill(scene.server.pid(), Signal::SIGKILL)?;
    let warned = |warning: &String| warning.contains("the first process of gen1 has ended");
    wait::until_true("status says so", LIMIT, || {
        let web = scene.host.web();
        web.is_ok_and(|web| web.warnings.iter().any(warned))
    })?;
    scene.host.expect_answers(target()?, 20, "gen1")?;
    let down = scene.host.ok(&["down"])?;
    ensure!(!down.stdout.contains("nothing is left"), "{}", down.stdout);
    ensure!(down.stderr.contains("still serves"), "{}", down.stderr);
    // It said the truth.
    ensure!(scene.host.ask(target()?).is_ok());
    let workers = cgroups::pids(&scene.units.cgroup(UNIT)?)?;
    ensure!(!workers.is_empty());
    Ok(())
}
