//! Promise: groups are exact. A candidate whose sockets are not in the groups the service steers is refused with both
//! sockets described, and costs the clients of the active generation nothing.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{
    command::Run,
    host::Host,
    load::Plan,
    servers::{CommandLine, Plain},
    waiting::Waiting,
};
use nix::unistd::User;

const LIMIT: Duration = Duration::from_secs(15);
const V4: &str = "127.0.0.1:8080";
const V6: &str = "[::1]:8080";

fn target(text: &str) -> Result<SocketAddr> {
    Ok(text.parse()?)
}

fn plain(name: &str, listen: &[&str]) -> Plain {
    listen
        .iter()
        .fold(Plain::new(name), |server, address| server.listen(address))
}

/// Deploys `gen2` beside an active `gen1` under load. It must be refused, nothing may reach it, nothing may be lost.
fn refused(host: &Host, targets: &[&str], server: &CommandLine) -> Result<Run> {
    let targets = targets
        .iter()
        .map(|text| target(text))
        .collect::<Result<Vec<_>>>()?;
    let loads = targets
        .iter()
        .map(|target| host.load(Plan::new(*target).workers(8)))
        .collect::<Result<Vec<_>>>()?;
    for load in &loads {
        load.wait_more(100, LIMIT)?;
    }
    let run = host
        .try_deploy("gen2", server)?
        .expect_code(1)?
        .expect_one_line_error()?;
    for load in loads {
        load.wait_more(200, LIMIT)?;
        let outcome = load.stop()?;
        outcome.expect_none_lost()?;
        ensure!(
            outcome.by("gen2") == 0,
            "the refused candidate answered clients: {outcome:#?}"
        );
    }
    let web = host.web()?;
    ensure!(web.active.as_deref() == Some("gen1"), "{web:#?}");
    let failed = web.generation("gen2")?;
    ensure!(
        failed.state == "failed" && failed.reason.is_some(),
        "{failed:#?}"
    );
    targets
        .iter()
        .try_for_each(|target| host.expect_answers(*target, 20, "gen1"))?;
    Ok(run)
}

#[test]
fn a_more_specific_bind_is_refused_with_the_reason() -> Result<()> {
    let host = Host::with_service("listen = [\"0.0.0.0:8080\"]\nready_timeout = \"5s\"")?;
    host.upgrade("gen1", &plain("gen1", &["0.0.0.0:8080"]).command()?)?;
    let run = refused(&host, &[V4], &plain("gen2", &["127.0.0.1:8080"]).command()?)?;
    run.expect_stderr(&["127.0.0.1:8080", "declared", "rewrite"])?;
    let reason = host.generation("gen2")?.reason.unwrap_or_default();
    ensure!(
        reason.contains("127.0.0.1:8080"),
        "the status does not say why: {reason}"
    );
    Ok(())
}

#[test]
fn a_more_specific_bind_is_moved_when_asked_for() -> Result<()> {
    let host = Host::with_service("listen = [\"0.0.0.0:8080\"]\nbind = \"rewrite\"")?;
    host.upgrade("gen1", &plain("gen1", &["0.0.0.0:8080"]).command()?)?;
    let load = host.load(Plan::new(target(V4)?).workers(8))?;
    host.deploy("gen2", &plain("gen2", &["127.0.0.1:8080"]).command()?)?;
    host.expect_answers(target(V4)?, 40, "gen1")?;
    host.promote("gen2")?;
    host.expect_answers(target(V4)?, 40, "gen2")?;
    load.stop()?.expect_none_lost()?;
    let moved = host.generation("gen2")?;
    let addresses: Vec<_> = moved
        .listeners
        .iter()
        .map(|listener| listener.address.as_str())
        .collect();
    ensure!(addresses == ["0.0.0.0:8080"], "{moved:#?}");
    Ok(())
}

#[test]
fn a_dual_stack_server_is_refused_where_both_families_are_declared() -> Result<()> {
    let host =
        Host::with_service("listen = [\"0.0.0.0:8080\", \"[::]:8080\"]\nready_timeout = \"5s\"")?;
    host.upgrade(
        "gen1",
        &plain("gen1", &["0.0.0.0:8080", "[::]:8080"])
            .flag("--v6only")
            .command()?,
    )?;
    let server = plain("gen2", &["[::]:8080"])
        .flag("--dual-stack")
        .command()?;
    refused(&host, &[V4, V6], &server)?.expect_stderr(&["[::]:8080", "0.0.0.0:8080"])?;
    Ok(())
}

/// The active generation takes IPv4 on `[::]` too; a candidate that does not would leave those clients to nobody.
#[test]
fn an_ipv6_only_candidate_is_refused_beside_a_dual_stack_active() -> Result<()> {
    let host = Host::with_service("listen = [\"[::]:8080\"]\nready_timeout = \"5s\"")?;
    host.upgrade(
        "gen1",
        &plain("gen1", &["[::]:8080"])
            .flag("--dual-stack")
            .command()?,
    )?;
    let server = plain("gen2", &["[::]:8080"]).flag("--v6only").command()?;
    refused(&host, &[V4, V6], &server)?.expect_stderr(&["[::]:8080"])?;
    Ok(())
}

/// `[::]` alone, and a first server that is IPv6 only: the parking listener joins its group.
#[test]
fn the_parking_listener_joins_the_group_of_the_first_server() -> Result<()> {
    let host = Host::with_service("listen = [\"[::]:8080\"]")?;
    host.upgrade(
        "gen1",
        &plain("gen1", &["[::]:8080"]).flag("--v6only").command()?,
    )?;
    host.expect_answers(target(V6)?, 20, "gen1")?;
    let group = host.web()?.groups.into_iter().next().context("no group")?;
    ensure!(group.v6only == Some(true), "{group:?}");
    Ok(())
}

/// Clients that wait in the dual-stack group cannot move to another group: the server is refused, with what to do, and
/// they wait on until one comes that they can move to.
#[test]
fn the_parking_listener_keeps_its_shape_while_clients_wait() -> Result<()> {
    let host = Host::with_service("listen = [\"[::]:8080\"]")?;
    let early = Waiting::open(host.netns(), target(V6)?, 20)?;
    let server = plain("gen1", &["[::]:8080"]).flag("--v6only").command()?;
    host.try_deploy("gen1", &server)?
        .expect_code(1)?
        .expect_stderr(&["dual-stack", "IPv6 only", "declare 0.0.0.0 and [::] both"])?;
    early.expect_silence()?;
    host.upgrade(
        "gen2",
        &plain("gen2", &["[::]:8080"])
            .flag("--dual-stack")
            .command()?,
    )?;
    early.expect_by("gen2")?;
    Ok(())
}

#[test]
fn a_candidate_that_opens_too_few_sockets_is_refused() -> Result<()> {
    let host = Host::with_service(
        "listen = [\"0.0.0.0:8080\", \"0.0.0.0:8443\"]\nready_timeout = \"2s\"",
    )?;
    host.upgrade(
        "gen1",
        &plain("gen1", &["0.0.0.0:8080", "0.0.0.0:8443"]).command()?,
    )?;
    let server = plain("gen2", &["0.0.0.0:8080"]).command()?;
    refused(&host, &[V4, "127.0.0.1:8443"], &server)?.expect_stderr(&["0.0.0.0:8443"])?;
    Ok(())
}

#[test]
fn a_server_of_another_user_is_refused_beside_one_of_root() -> Result<()> {
    let host = Host::with_service("listen = [\"0.0.0.0:8080\"]\nready_timeout = \"5s\"")?;
    host.upgrade("gen1", &plain("gen1", &["0.0.0.0:8080"]).command()?)?;
    let server = plain("gen2", &["0.0.0.0:8080"])
        .option("--uid", 65534)
        .command()?;
    refused(&host, &[V4], &server)?.expect_stderr(&["nobody", "root"])?;
    Ok(())
}

/// The first server drops root by itself: either the parking listener joins its group, or the reason is given.
#[test]
fn a_first_server_of_another_user_works_or_is_explained() -> Result<()> {
    let host = Host::with_service("listen = [\"0.0.0.0:8080\"]\nready_timeout = \"5s\"")?;
    let early = Waiting::open(host.netns(), target(V4)?, 20)?;
    let server = |name: &str| {
        plain(name, &["0.0.0.0:8080"])
            .option("--uid", 65534)
            .command()
    };
    let run = host.try_deploy("gen1", &server("gen1")?)?;
    if run.code != 0 {
        run.expect_code(1)?
            .expect_one_line_error()?
            .expect_stderr(&["nobody", "root", "user = "])?;
        return early.expect_silence();
    }
    host.promote("gen1")?;
    early.expect_by("gen1")?;
    host.upgrade("gen2", &server("gen2")?)?;
    host.expect_answers(target(V4)?, 20, "gen2")
}

#[test]
fn a_service_with_a_user_runs_as_that_user() -> Result<()> {
    let nobody = User::from_name("nobody")?.context("there is no user nobody")?;
    let host =
        Host::with_service("listen = [\"0.0.0.0:8080\"]\nuser = \"nobody\"\ngroup = \"nogroup\"")?;
    let early = Waiting::open(host.netns(), target(V4)?, 20)?;
    let server = |name: &str| -> Result<CommandLine> {
        let mut line = plain(name, &["0.0.0.0:8080"]).command()?;
        // The build directory may be closed to other users.
        let program = host.copy_of(std::path::Path::new(&line[0]))?;
        line[0] = program.display().to_string();
        Ok(line)
    };
    host.upgrade("gen1", &server("gen1")?)?;
    early.expect_by("gen1")?;
    let load = host.load(Plan::new(target(V4)?).workers(8))?;
    host.upgrade("gen2", &server("gen2")?)?;
    load.wait_for("answers of gen2", LIMIT, |outcome| outcome.by("gen2") > 100)?;
    load.stop()?.expect_none_lost()?;
    let generation = host.generation("gen2")?;
    ensure!(
        generation
            .listeners
            .iter()
            .all(|listener| listener.uid == nobody.uid.as_raw()),
        "{generation:#?}"
    );
    let process = procfs::process::Process::new(generation.process()?.as_raw())?.status()?;
    ensure!(
        (process.euid, process.egid) == (nobody.uid.as_raw(), nobody.gid.as_raw()),
        "{process:?}"
    );
    Ok(())
}
