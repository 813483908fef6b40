//! Promise: a QUIC connection goes on with its generation, and with its worker there, whatever is promoted meanwhile
//! and whatever address the client has; new connections go by the steering word.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{
    host::Host,
    quic::{Client, Clients},
    report,
    servers::Quic,
    status::Datagrams,
};

const PORT: u16 = 4433;
const TARGET: &str = "127.0.0.1:4433";
/// How long nothing comes before a connection is taken for lost.
const LOST: Duration = Duration::from_secs(3);
/// A datagram in two has the fixed bit with quinn at both ends, and an id is learned from those: after so many there was
/// one.
const LEARNED_AFTER: usize = 16;
const PROMOTES: usize = 6;
const CONNECTIONS_EACH: usize = 4;

fn host(keys: &str) -> Result<Host> {
    Host::with_service(&format!(
        "listen = [\"udp://0.0.0.0:{PORT}\"]\nflow_idle = \"1m\"\ndrain = {{ deadline = \"3m\" }}\n{keys}"
    ))
}

fn clients(host: &Host) -> Result<Clients<'_>> {
    let target: SocketAddr = TARGET.parse()?;
    Clients::new(host.netns(), target)
}

fn upgrade(host: &Host, generation: &str, sockets: u32) -> Result<()> {
    let server = Quic::new(generation, PORT).option("--sockets", sockets);
    host.deploy(generation, &server.command()?)?;
    host.ok(&["promote", "--no-wait", generation])?;
    Ok(())
}

fn udp(host: &Host) -> Result<Datagrams> {
    host.web()?.udp.context("the service has a UDP side")
}

/// Who answers a connection, so often that its id was learned.
fn settled(client: &Client<'_>) -> Result<String> {
    let name = client.ask()?;
    for _question in 0..LEARNED_AFTER {
        client.expect(&name)?;
    }
    Ok(name)
}

fn is_lost(client: &Client<'_>) -> bool {
    client.ask_within(LOST).is_err()
}

#[test]
fn an_address_that_changes_leads_to_the_same_worker_of_the_same_generation() -> Result<()> {
    let host = host("flow = \"quic\"")?;
    let clients = clients(&host)?;
    upgrade(&host, "gen1", 2)?;
    let before = clients.several(8)?;
    let mut names = Vec::new();
    for client in &before {
        names.push(settled(client)?);
    }
    for worker in ["gen1 1", "gen1 2"] {
        ensure!(names.iter().any(|name| name == worker), "{names:?}");
    }
    upgrade(&host, "gen2", 2)?;
    for turn in 1..=2 {
        for (client, name) in before.iter().zip(&names) {
            client.reroute()?;
            client
                .expect(name)
                .with_context(|| format!("turn {turn}"))?;
        }
    }
    let next = clients.connect()?.ask()?;
    ensure!(next.starts_with("gen2"), "{next}");
    let udp = udp(&host)?;
    udp.check_balance()?;
    ensure!(udp.readdressed == 16 && udp.moved == 0, "{udp:?}");
    Ok(())
}
