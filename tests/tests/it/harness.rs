//! Self tests of the harness, without hotlb: the clients must see every failure there is to see, or the zeros of the
//! other tests would mean nothing.

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{
    cgroups,
    failure::Failure,
    load::{Load, Plan},
    netns::Netns,
    process::{self, Process},
    report,
    servers::{CommandLine, Kind, Nginx, Plain, nginx, node, python},
    wait,
    waiting::Waiting,
};
use nix::sys::signal::Signal;

const TARGET: &str = "127.0.0.1:8080";
const LIMIT: Duration = Duration::from_secs(10);

/// A namespace with a place for the files of bare servers.
struct Bare {
    netns: Netns,
    directory: tempfile::TempDir,
    target: SocketAddr,
}

impl Bare {
    fn new() -> Result<Self> {
        Ok(Self {
            netns: Netns::new()?,
            directory: tempfile::tempdir()?,
            target: TARGET.parse()?,
        })
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Starts a server and waits until it answers on a connection of its own.
    fn serve(&self, line: &CommandLine) -> Result<Process> {
        let server = self.start(line)?;
        wait::until_true("the server listens", LIMIT, || {
            Waiting::open(&self.netns, self.target, 1).is_ok()
        })?;
        Ok(server)
    }

    fn start(&self, line: &CommandLine) -> Result<Process> {
        let (program, arguments) = line.split_first().context("an empty command line")?;
        Process::start(
            self.netns.command(program).args(arguments),
            &self.path().join("server.log"),
        )
    }

    fn plain(&self, name: &str) -> Result<CommandLine> {
        Kind::Plain.command(self.path(), name, self.target.port())
    }

    fn load(&self, plan: Plan) -> Result<Load> {
        Load::start(&self.netns, plan)
    }
}

#[test]
fn a_healthy_server_loses_nothing() -> Result<()> {
    let bare = Bare::new()?;
    let _server = bare.serve(&bare.plain("only")?)?;
    let load = bare.load(Plan::new(bare.target).max_requests(5_000))?;
    load.wait_more(5_000, LIMIT)?;
    let outcome = load.stop()?;
    outcome.expect_none_lost()?;
    assert_eq!((outcome.ok, outcome.by("only")), (5_000, 5_000));
    report::figure(
        "harness: new connections per second, plain-server, no hotlb",
        rate(&outcome),
    );
    Ok(())
}

fn rate(outcome: &hotlb_tests::load::Outcome) -> String {
    format!(
        "{:.0}",
        f64::from(u32::try_from(outcome.ok).unwrap_or(u32::MAX)) / outcome.took.as_secs_f64()
    )
}

#[test]
fn stop_and_start_shows_as_failed_requests() -> Result<()> {
    let bare = Bare::new()?;
    let first = bare.serve(&bare.plain("first")?)?;
    let load = bare.load(Plan::new(bare.target))?;
    load.wait_more(500, LIMIT)?;
    drop(first);
    load.wait_for("refused connections", LIMIT, |outcome| outcome.refused > 0)?;
    let _second = bare.serve(&bare.plain("second")?)?;
    load.wait_for("answers of the second server", LIMIT, |outcome| {
        outcome.by("second") > 500
    })?;
    let outcome = load.stop()?;
    assert!(outcome.failed > 0 && outcome.refused > 0, "{outcome:#?}");
    outcome
        .expect_none_failed()
        .expect_err("failures must not pass");
    report::figure(
        "harness: failed requests of one stop and start, no hotlb",
        outcome.failed,
    );
    Ok(())
}

/// Two generations of nginx share the port by `SO_REUSEPORT`; one is killed with connections in its accept queue.
fn kill_one_of_two(migrate: &str) -> Result<Vec<Result<String, Failure>>> {
    let bare = Bare::new()?;
    bare.netns.sysctl("net/ipv4/tcp_migrate_req", migrate)?;
    let server = |name: &str| {
        Nginx::new(name)
            .single_process()
            .listen(&format!("{TARGET} reuseport"))
            .command(bare.path())
    };
    let mut first = bare.serve(&server("first")?)?;
    process::freeze(first.pid())?;
    let _second = bare.start(&server("second")?)?;
    wait::until_true("the second server answers", LIMIT, || {
        Waiting::open(&bare.netns, bare.target, 8).is_ok_and(|waiting| waiting.any_answer())
    })?;
    let waiting = Waiting::open(&bare.netns, bare.target, 64)?;
    first.kill()?;
    Ok(waiting
        .finish()
        .into_iter()
        .map(|result| result.map(|response| response.generation))
        .collect())
}

#[test]
fn overlap_without_migration_shows_as_failed_requests() -> Result<()> {
    if let Some(reason) = Kind::Nginx.missing() {
        return report::skip("overlap_without_migration_shows_as_failed_requests", reason);
    }
    let results = kill_one_of_two("0")?;
    let lost = results
        .iter()
        .filter(|result| matches!(result, Err(Failure::Reset { .. })))
        .count();
    let answered = results
        .iter()
        .filter(|result| matches!(result, Ok(name) if name == "second"))
        .count();
    ensure!(lost > 0, "64 connections, none reset: {results:?}");
    assert_eq!(lost + answered, 64, "{results:?}");
    report::figure(
        "harness: of 64 waiting connections, reset with tcp_migrate_req=0",
        lost,
    );
    Ok(())
}

#[test]
fn overlap_with_migration_loses_nothing_that_waits() -> Result<()> {
    if let Some(reason) = Kind::Nginx.missing() {
        return report::skip("overlap_with_migration_loses_nothing_that_waits", reason);
    }
    let results = kill_one_of_two("1")?;
    let answered = results
        .iter()
        .filter(|result| matches!(result, Ok(name) if name == "second"))
        .count();
    assert_eq!(answered, 64, "{results:?}");
    Ok(())
}

#[test]
fn a_slow_answer_is_counted_as_slow() -> Result<()> {
    let bare = Bare::new()?;
    let line = Plain::new("slow")
        .listen(TARGET)
        .option("--delay-ms", 300)
        .command()?;
    let _server = bare.serve(&line)?;
    let load = bare.load(Plan::new(bare.target).workers(4).max_requests(4))?;
    load.wait_more(4, LIMIT)?;
    let outcome = load.stop()?;
    assert_eq!((outcome.ok, outcome.slow), (4, 4), "{outcome:#?}");
    outcome.expect_none_failed()?;
    outcome
        .expect_none_lost()
        .expect_err("slow requests must not pass");
    Ok(())
}

#[test]
fn a_bad_status_is_a_failure() -> Result<()> {
    let bare = Bare::new()?;
    let _server = bare.serve(
        &Plain::new("ill")
            .listen(TARGET)
            .option("--health-status", 500)
            .command()?,
    )?;
    let plan = Plan {
        path: "/healthz".to_owned(),
        ..Plan::new(bare.target).max_requests(10)
    };
    let load = bare.load(plan)?;
    load.wait_for("ten failures", LIMIT, |outcome| outcome.failed == 10)?;
    assert_eq!(load.stop()?.ok, 0);
    Ok(())
}

#[test]
fn kept_connections_are_used_again_and_a_cut_is_seen() -> Result<()> {
    let bare = Bare::new()?;
    let server = bare.serve(&bare.plain("first")?)?;
    let load = bare.load(Plan::new(bare.target).workers(8).keep_alive())?;
    load.wait_more(2_000, LIMIT)?;
    load.so_far().expect_none_failed()?;
    drop(server);
    load.wait_for("cut connections", LIMIT, |outcome| {
        outcome.failed > outcome.refused
    })?;
    Ok(())
}

#[test]
fn plain_server_ends_in_order() -> Result<()> {
    let bare = Bare::new()?;
    let line = Plain::new("polite")
        .listen(TARGET)
        .option("--delay-ms", 300)
        .command()?;
    let mut server = bare.serve(&line)?;
    let waiting = Waiting::open(&bare.netns, bare.target, 16)?;
    // Each of them is accepted once this later one is answered.
    Waiting::open(&bare.netns, bare.target, 1)?.answers()?;
    server.signal(Signal::SIGTERM)?;
    let answers = waiting.answers()?;
    assert!(answers.iter().all(|answer| answer.generation == "polite"));
    assert!(server.wait(LIMIT)?.success(), "{}", server.log());
    Ok(())
}

#[test]
fn plain_server_sets_no_reuseport() -> Result<()> {
    let bare = Bare::new()?;
    let _first = bare.serve(&bare.plain("first")?)?;
    let mut second = bare.start(&bare.plain("second")?)?;
    assert!(!second.wait(LIMIT)?.success());
    assert!(
        second.log().contains("Address already in use"),
        "{}",
        second.log()
    );
    Ok(())
}

#[test]
fn every_server_answers_with_its_name() -> Result<()> {
    let bare = Bare::new()?;
    for kind in [
        Kind::Nginx,
        Kind::NginxReuseport,
        Kind::Python,
        Kind::Node,
        Kind::Plain,
    ] {
        if let Some(reason) = kind.missing() {
            report::skip("every_server_answers_with_its_name", reason)?;
            continue;
        }
        let name = format!("{kind:?}");
        let mut server = bare.serve(&kind.command(bare.path(), &name, bare.target.port())?)?;
        let answers = Waiting::open(&bare.netns, bare.target, 2)?.answers()?;
        assert!(
            answers.iter().all(|answer| answer.generation == name),
            "{answers:?}"
        );
        server.signal(Signal::SIGTERM)?;
        server.wait(LIMIT)?;
    }
    Ok(())
}

#[test]
fn a_namespace_ends_with_everything_in_it() -> Result<()> {
    let netns = Netns::new()?;
    let (name, path) = (netns.name().to_owned(), netns.path());
    let mut child = netns.command("sleep").arg("60").spawn()?;
    wait::until_true("sleep is in the namespace", LIMIT, || {
        netns.pids().is_ok_and(|pids| !pids.is_empty())
    })?;
    drop(netns);
    assert!(!path.exists(), "{name} is still there");
    assert!(!child.wait()?.success());
    Ok(())
}

#[test]
fn a_namespace_ends_when_its_test_panics() {
    let panic = std::thread::spawn(|| {
        let netns = Netns::new().unwrap();
        std::panic::panic_any(netns.path());
    });
    let payload = panic.join().unwrap_err();
    let path = payload.downcast_ref::<std::path::PathBuf>().unwrap();
    assert!(!path.exists(), "{} is still there", path.display());
}

#[test]
fn the_unified_cgroup_tree_is_found() -> Result<()> {
    assert!(cgroups::mount()?.join("cgroup.controllers").exists());
    assert!(cgroups::of(nix::unistd::Pid::this())?.exists());
    Ok(())
}

#[test]
fn nothing_of_the_machine_leaks_into_a_namespace() -> Result<()> {
    let bare = Bare::new()?;
    assert!(bare.netns.pids()?.is_empty());
    let refused = Waiting::open(&bare.netns, bare.target, 1).expect_err("nobody listens there");
    assert!(format!("{refused:#}").contains("refused"), "{refused:#}");
    Ok(())
}

#[test]
fn the_servers_of_this_machine_are_named() {
    for (name, found) in [
        ("nginx", nginx::binary()),
        ("python3", python::binary()),
        ("node", node::binary()),
    ] {
        let place = found.map_or_else(
            || "not installed".to_owned(),
            |path| path.display().to_string(),
        );
        report::figure(&format!("harness: {name}"), place);
    }
}
