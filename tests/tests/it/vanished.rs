//! Promise: what the agent relies on may vanish while it runs (pins, directories, sockets, ledgers): it is put back within
//! two seconds and said. An agent that starts and finds living generations without their pins leaves them as they are.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{host::Host, load::Plan, mounts, report, servers::Plain, wait, waiting::Waiting};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::signal::{Signal, kill},
};

const NOTICED: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(10);

/// Between two looks of the agent at its pins, and a bit.
const LOOKED: Duration = Duration::from_millis(1_500);

fn target() -> SocketAddr {
    ([127, 0, 0, 1], 8080).into()
}

fn upgrade(host: &Host, generation: &str) -> Result<()> {
    let server = Plain::new(generation).listen("0.0.0.0:8080").command()?;
    host.upgrade(generation, &server)
}

/// `a` is on standby, `b` is active.
fn scene() -> Result<Host> {
    let host = Host::with_service("listen = [\"0.0.0.0:8080\"]")?;
    upgrade(&host, "a")?;
    upgrade(&host, "b")?;
    host.wait_state("a", &["standby"])?;
    Ok(host)
}

fn put_back(host: &Host, part: &str) -> Option<String> {
    let status = host.hotlb(&["status"]).ok()?;
    let said = |line: &&str| line.contains("restored after it vanished") && line.contains(part);
    status.stdout.lines().find(said).map(str::to_owned)
}

fn pins(dir: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(pins(&path)?);
        } else {
            found.push(path.display().to_string());
        }
    }
    found.sort();
    Ok(found)
}

#[test]
fn pins_that_are_removed_are_put_back() -> Result<()> {
    let mut host = scene()?;
    let load = host.load(Plan::new(target()).workers(4))?;
    let web = host.bpffs().join("web");
    for gone in [web.as_path(), &web.join("links"), host.bpffs()] {
        // The agent holds a pin from its next look, which is a second away at most.
        let made = Instant::now();
        let before = pins(&web)?;
        wait::until_true("all pins are held", LIMIT, || {
            made.elapsed() > LOOKED && pins(&web).is_ok_and(|now| now == before)
        })?;
        load.wait_more(2_000, LIMIT)?;
        fs::remove_dir_all(gone)?;
        let began = Instant::now();
        wait::until_true("they are there again", NOTICED, || {
            pins(&web).is_ok_and(|now| now == before)
        })
        .with_context(|| host.agent_log())?;
        let took = began.elapsed().as_millis();
        report::figure("vanished: pins back after, ms", took.to_string());
    }
    ensure!(
        put_back(&host, "pins").is_some(),
        "{:?}",
        host.hotlb(&["status"])?.stdout
    );
    // The programs that let servers share the port are attached as before.
    upgrade(&host, "c")?;
    host.expect_answers(target(), 20, "c")?;
    host.kill_agent()?;
    host.start_agent()?;
    upgrade(&host, "d")?;
    host.expect_answers(target(), 20, "d")?;
    load.stop()?.expect_none_lost()
}

fn bpffs_over(dir: &Path) -> Result<()> {
    mount(
        Some("bpf"),
        dir,
        Some("bpf"),
        MsFlags::empty(),
        None::<&str>,
    )
    .with_context(|| format!("mount a bpffs over {}", dir.display()))
}

#[test]
fn pins_under_another_bpffs_are_put_into_it() -> Result<()> {
    mounts::in_private(|| {
        let mut host = scene()?;
        bpffs_over(host.bpffs())?;
        wait::until_true("they are in the one on top", NOTICED, || {
            host.bpffs().join("web/maps/STEERING").exists()
        })?;
        let said = put_back(&host, "is mounted over");
        ensure!(said.is_some(), "{}", host.hotlb(&["status"])?.stdout);
        host.kill_agent()?;
        host.expect_answers(target(), 20, "b")?;
        host.start_agent()?;
        host.expect_answers(target(), 20, "b")?;
        host.ok(&["rollback"])?;
        host.expect_answers(target(), 20, "a")?;
        host.ok(&["down"])?;
        umount2(host.bpffs(), MntFlags::MNT_DETACH)?;
        Ok(())
    })
}

/// Nobody held them meanwhile: the next agent leaves everything as it is, says why, and starts once they are back.
#[test]
fn an_agent_without_pins_leaves_living_generations_alone() -> Result<()> {
    mounts::in_private(|| {
        let mut host = scene()?;
        host.kill_agent()?;
        bpffs_over(host.bpffs())?;
        let load = host.load(Plan::new(target()).workers(4))?;
        load.wait_more(500, LIMIT)?;
        let refused = host.hotlb(&["agent"])?.expect_code(78)?;
        let over = format!("mounted over {}", host.bpffs().display());
        refused.expect_last_error(&["pins", &over, "b (pid ", "umount"])?;
        host.hotlb(&["down"])?
            .expect_code(3)?
            .expect_last_error(&["hotlb agent", "cgroup.kill"])?;
        load.wait_more(500, LIMIT)?;
        let outcome = load.stop()?;
        ensure!(outcome.by("a") == 0, "{outcome:#?}");
        outcome.expect_none_lost()?;
        umount2(host.bpffs(), MntFlags::MNT_DETACH)?;
        host.start_agent()?;
        upgrade(&host, "c")?;
        host.expect_answers(target(), 20, "c")
    })
}

/// As `tmpfiles` or a careless `rm` does it.
#[test]
fn a_runtime_directory_that_is_cleaned_is_made_again() -> Result<()> {
    let mut host = Host::with_service("listen = [\"0.0.0.0:8080\"]")?;
    let waiting = Waiting::open(host.netns(), target(), 5)?;
    let run = host.directory().join("run");
    let keeper = host.keeper()?.context("a keeper")?;
    for entry in fs::read_dir(&run)? {
        let path = entry?.path();
        if path.is_dir() {
            fs::remove_dir_all(path)?;
        } else {
            fs::remove_file(path)?;
        }
    }
    wait::until_true("the agent answers again", NOTICED * 2, || {
        host.socket().exists() && put_back(&host, "control socket").is_some()
    })?;
    wait::until_true("the keeper answers again", NOTICED * 2, || {
        host.keeper()
            .is_ok_and(|now| now.is_some_and(|now| now != keeper))
            && run.join("web.keeper").exists()
    })?;
    // Who waited in the keeper's listeners has not been sent away.
    upgrade(&host, "a")?;
    waiting.expect_by("a")?;
    host.ok(&["agent", "upgrade"])?;
    fs::remove_dir_all(&run)?;
    wait::until_true("all is there again", NOTICED * 2, || {
        host.socket().exists() && run.join("agent.lock").exists() && run.join("web.keeper").exists()
    })?;
    upgrade(&host, "b")?;
    host.expect_answers(target(), 20, "b")?;
    host.ok(&["down"])?;
    // Nothing of the keepers that were replaced is left.
    ensure!(host.keeper()?.is_none());
    host.start_agent()
}

/// A keeper whose socket vanished while no agent ran is found by its cgroup.
#[test]
fn a_keeper_without_its_socket_is_found_by_the_next_agent() -> Result<()> {
    let mut host = Host::with_service("listen = [\"0.0.0.0:8080\"]")?;
    let waiting = Waiting::open(host.netns(), target(), 5)?;
    host.kill_agent()?;
    fs::remove_file(host.directory().join("run/web.keeper"))?;
    host.start_agent()?;
    upgrade(&host, "a")?;
    waiting.expect_by("a")?;
    Ok(())
}

#[test]
fn a_ledger_that_is_removed_is_written_again() -> Result<()> {
    let mut host = scene()?;
    let ledger = host.directory().join("state/web.json");
    fs::remove_file(&ledger)?;
    wait::until_true("it is there again", NOTICED, || ledger.exists())?;
    // Another state directory, a ledger that was set aside: what lives is in the kernel.
    host.kill_agent()?;
    let before = fs::read(&ledger)?;
    fs::remove_file(&ledger)?;
    host.start_agent()?;
    let web = host.web()?;
    ensure!(web.active.as_deref() == Some("b"), "{web:#?}");
    ensure!(web.generation("a")?.state == "standby", "{web:#?}");
    ensure!(before != fs::read(&ledger)?);
    let pid = web.generation("b")?.process()?;
    host.ok(&["rollback"])?;
    host.expect_answers(target(), 20, "a")?;
    kill(pid, Signal::SIGKILL)?;
    host.wait_state("b", &["failed"])?;
    upgrade(&host, "c")?;
    host.expect_answers(target(), 20, "c")
}

/// With another root the same generations would be taken for dead.
#[test]
fn another_cgroup_is_not_searched_for_generations_that_live_elsewhere() -> Result<()> {
    let mut host = scene()?;
    host.kill_agent()?;
    let elsewhere = format!("{}x", host.netns().name());
    let mut agent = host.command(host.binary());
    agent.arg("agent").env("HOTLB_CGROUP", &elsewhere);
    let refused = hotlb_tests::command::run(&mut agent, LIMIT)?.expect_code(78)?;
    refused.expect_last_error(&["generation", "HOTLB_CGROUP"])?;
    hotlb_tests::cgroups::end(&hotlb_tests::cgroups::mount()?.join(&elsewhere))?;
    host.expect_answers(target(), 20, "b")?;
    host.start_agent()?;
    upgrade(&host, "c")
}

/// A candidate that nobody promoted was never active, also when nobody remembers that.
#[test]
fn without_a_ledger_nobody_is_led_to_a_candidate() -> Result<()> {
    let mut host = Host::with_service("listen = [\"0.0.0.0:8080\"]\nready_timeout = \"5s\"")?;
    upgrade(&host, "good")?;
    host.deploy(
        "ready",
        &Plain::new("ready").listen("0.0.0.0:8080").command()?,
    )?;
    let mute = Plain::new("mute").listen("0.0.0.0:8080");
    let mute = mute.flag("--never-accept").command()?;
    let mut deploy = vec!["deploy", "--generation", "mute", "--"];
    deploy.extend(mute.iter().map(String::as_str));
    let deploying = host.start_hotlb(&deploy)?;
    wait::until_true("the candidate listens", LIMIT, || {
        let mute = host.generation("mute");
        mute.is_ok_and(|mute| mute.state == "starting" && !mute.listeners.is_empty())
    })?;
    host.kill_agent()?;
    drop(deploying);
    // The journal too: nothing is left that knows of a promote.
    fs::remove_dir_all(host.directory().join("state"))?;
    host.start_agent()?;
    let web = host.web()?;
    ensure!(web.active.as_deref() == Some("good"), "{web:#?}");
    ensure!(web.previous.is_none(), "{web:#?}");
    ensure!(web.fallback.as_deref() != Some("mute"), "{web:#?}");
    host.hotlb(&["rollback"])?.expect_code(6)?;
    // They prove themselves as candidates do: one can, one cannot.
    let ready = host.wait_state("ready", &["standby"])?;
    host.wait_state("mute", &["failed"])?;
    ensure!(ready.pid.is_some() && host.generation("mute")?.pid.is_none());
    ensure!(host.web()?.fallback.as_deref() == Some("ready"));
    let reason = host.generation("ready")?.reason.context("a reason")?;
    ensure!(reason.contains("the ledger did not know of it"), "{reason}");
    host.expect_answers(target(), 20, "good")?;
    host.promote("ready")?;
    host.expect_answers(target(), 20, "ready")
}

/// The keeper and the servers of a service that was renamed are hotlb's own, and nobody's to adopt.
#[test]
fn a_renamed_service_is_told_apart_from_a_strangers_server() -> Result<()> {
    let mut host = scene()?;
    host.kill_agent()?;
    for adopts in ["", "adopt = true\n"] {
        let renamed = format!("[service.site]\nlisten = [\"0.0.0.0:8080\"]\n{adopts}");
        host.write_config(&renamed)?;
        let mut agent = host.command(host.binary());
        hotlb_tests::command::run(agent.arg("agent"), LIMIT)?
            .expect_code(78)?
            .expect_last_error(&["is held by the service web", "renamed"])?;
        host.expect_answers(target(), 20, "b")?;
    }
    host.write_config("[service.web]\nlisten = [\"0.0.0.0:8080\"]\n")?;
    host.start_agent()?;
    upgrade(&host, "c")
}
