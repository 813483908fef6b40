//! Promise: the clients of a generation that drains leave by themselves, after a complete response. Kept connections
//! of unmodified HTTP/1.1 servers lose no request in an upgrade, and no byte of a body is changed.

use anyhow::{Result, ensure};
use hotlb_tests::{polite, report, servers::nginx, wrk};

fn show(name: &str, outcome: &polite::Upgrades) {
    let longest = outcome.promotes.iter().max().copied().unwrap_or_default();
    report::figure(
        name,
        format!(
            "{} upgrades, {} requests, {} socket errors, {} non-2xx, longest promote {} ms",
            outcome.upgrades,
            outcome.clients.requests,
            outcome.clients.socket_errors,
            outcome.clients.bad_status,
            longest.as_millis()
        ),
    );
}

#[test]
fn kept_connections_of_nginx() -> Result<()> {
    if let Some(reason) = wrk::missing().or(nginx::binary().is_none().then_some("no nginx")) {
        return report::skip("polite: nginx under wrk", reason);
    }
    let polite = polite::upgrades(5, "auto")?;
    let blunt = polite::upgrades(5, "off")?;
    show("polite: nginx, 64 kept connections, polite drain", &polite);
    show("polite: nginx, 64 kept connections, signal alone", &blunt);
    ensure!(polite.clients.requests > 10_000, "{polite:?}");
    ensure!(
        polite.clients.socket_errors == 0 && polite.clients.bad_status == 0,
        "{polite:?}"
    );
    ensure!(
        blunt.clients.socket_errors > 0,
        "without it nothing fails here, so that this test shows nothing: {blunt:?}"
    );
    Ok(())
}
