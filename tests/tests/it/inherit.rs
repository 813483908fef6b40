//! Promise: a server that takes `LISTEN_FDS` is handed its sockets, and says by itself when it is ready.

use std::time::Duration;

use anyhow::{Result, ensure};
use hotlb_tests::{host::Host, load::Plan, report, servers::Plain, waiting::Waiting};

const LIMIT: Duration = Duration::from_secs(15);

fn story(keys: &str, targets: &[&str], server: impl Fn(&str) -> Plain) -> Result<()> {
    let host = Host::with_service(&format!("mode = \"inherit\"\n{keys}"))?;
    let targets = targets
        .iter()
        .map(|target| Ok(target.parse()?))
        .collect::<Result<Vec<_>>>()?;
    let early = targets
        .iter()
        .map(|target| Waiting::open(host.netns(), *target, 10))
        .collect::<Result<Vec<_>>>()?;
    host.upgrade("gen1", &server("gen1").command()?)?;
    for waiting in early {
        waiting.expect_by("gen1")?;
    }
    let loads = targets
        .iter()
        .map(|target| host.load(Plan::new(*target).workers(8)))
        .collect::<Result<Vec<_>>>()?;
    for number in 2..=5 {
        let generation = format!("gen{number}");
        host.deploy(&generation, &server(&generation).command()?)?;
        host.promote(&generation)?;
        targets
            .iter()
            .try_for_each(|target| host.expect_answers(*target, 20, &generation))?;
    }
    host.ok(&["rollback"])?;
    targets
        .iter()
        .try_for_each(|target| host.expect_answers(*target, 20, "gen4"))?;
    for load in loads {
        load.wait_more(200, LIMIT)?;
        let outcome = load.stop()?;
        report::figure("inherit: requests", outcome.requests());
        report::figure("inherit: failed", outcome.failed);
        outcome.expect_none_lost()?;
    }
    let web = host.web()?;
    ensure!(web.mode == "inherit", "{web:#?}");
    web.steering.check_balance()
}

#[test]
fn sockets_are_inherited_and_ready_is_said() -> Result<()> {
    story(
        "listen = [\"0.0.0.0:8080\"]\nnotify = true",
        &["127.0.0.1:8080"],
        |name| Plain::new(name).flag("--inherit").flag("--notify"),
    )
}

#[test]
fn without_notify_the_probe_decides() -> Result<()> {
    story("listen = [\"0.0.0.0:8080\"]", &["127.0.0.1:8080"], |name| {
        Plain::new(name).flag("--inherit")
    })
}

#[test]
fn every_address_has_its_socket() -> Result<()> {
    story(
        "listen = [\"0.0.0.0:8080\", \"[::]:8080\"]",
        &["127.0.0.1:8080", "[::1]:8080"],
        |name| Plain::new(name).flag("--inherit"),
    )
}

#[test]
fn a_server_that_never_says_ready_is_refused() -> Result<()> {
    let keys =
        "mode = \"inherit\"\nnotify = true\nready_timeout = \"2s\"\nlisten = [\"0.0.0.0:8080\"]";
    let host = Host::with_service(keys)?;
    let silent = Plain::new("gen1").flag("--inherit").command()?;
    host.try_deploy("gen1", &silent)?
        .expect_code(1)?
        .expect_one_line_error()?
        .expect_stderr(&["READY"])?;
    ensure!(host.generation("gen1")?.state == "failed");
    Ok(())
}
