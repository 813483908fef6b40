//! Promise: a server that takes `LISTEN_FDS` is handed its sockets, and says by itself when it is ready.

use anyhow::{Result, ensure};
use hotlb_tests::{everywhere, host::Host, report, servers::Plain};

fn story(keys: &str, targets: &[&str], server: impl Fn(&str) -> Plain) -> Result<()> {
    let host = Host::with_service(&format!("mode = \"inherit\"\n{keys}"))?;
    let upgrades = everywhere::upgrades(&host, targets, 5, |name| server(name).command());
    let (web, outcomes) = upgrades?;
    for outcome in outcomes {
        report::figure("inherit: requests", outcome.requests());
        report::figure("inherit: failed", outcome.failed);
        outcome.expect_none_lost()?;
    }
    ensure!(web.mode == "inherit", "{web:#?}");
    Ok(())
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
