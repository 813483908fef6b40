//! Promise: where there is no agent, or none that can be replaced, `hotlb agent upgrade` says so and does nothing.

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;
use hotlb_tests::{command, host::Host, servers::Plain, wait};

const LIMIT: Duration = Duration::from_secs(15);

#[test]
fn without_an_agent_or_with_a_tied_one() -> Result<()> {
    let host = Host::without_agent()?;
    host.hotlb(&["agent", "upgrade"])?.expect_code(3)?;
    let server = Plain::new("gen1").listen("0.0.0.0:8080").command()?;
    let mut run = host.command(host.binary());
    run.args(["run", "--listen", "0.0.0.0:8080", "--"])
        .args(server);
    let running = command::start(&mut run)?;
    let target: SocketAddr = "127.0.0.1:8080".parse()?;
    wait::until_true("it serves", LIMIT, || host.ask(target).is_ok())?;
    host.hotlb(&["agent", "upgrade"])?
        .expect_code(6)?
        .expect_stderr(&["hotlb run"])?;
    host.ok(&["down"])?;
    drop(running);
    let mut by_hand = host.command(host.binary());
    by_hand.args(["agent", "--take-over"]);
    command::run(&mut by_hand, LIMIT)?
        .expect_code(2)?
        .expect_stderr(&["hotlb agent upgrade"])?;
    Ok(())
}
