//! Promise: a QUIC connection goes on with its generation, and with its worker there, whatever is promoted meanwhile
//! and whatever address the client has; new connections go by the steering word.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use hotlb_tests::{
    host::Host,
    process::kill_outright,
    quic::{Client, Clients},
    report,
    servers::Quic,
    status::Datagrams,
    wait,
};

const LIMIT: Duration = Duration::from_secs(10);
const PORT: u16 = 4433;
const TARGET: &str = "127.0.0.1:4433";
/// How long nothing comes before a connection is taken for lost.
const LOST: Duration = Duration::from_secs(3);
/// A datagram in two has the fixed bit with quinn at both ends, and an id is learned from those: after so many there was
/// one.
const LEARNED_AFTER: usize = 16;
/// So many that each of two workers has some, but for one run in 32768.
const CLIENTS: usize = 16;
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
    let before = clients.several(CLIENTS)?;
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
    ensure!(
        udp.readdressed == 2 * CLIENTS as u64 && udp.moved == 0,
        "{udp:?}"
    );
    // Flows are counted now and then.
    wait::until_true("each address is a flow", LIMIT, || {
        host.generation("gen1")
            .is_ok_and(|drain| drain.flows == Some(3 * CLIENTS as u64))
    })?;
    Ok(())
}

#[test]
fn by_the_addresses_alone_it_leads_away() -> Result<()> {
    let host = host("flow = \"tuple\"")?;
    let clients = clients(&host)?;
    upgrade(&host, "gen1", 2)?;
    let client = clients.connect()?;
    let name = settled(&client)?;
    upgrade(&host, "gen2", 2)?;
    client.expect(&name)?;
    client.reroute()?;
    ensure!(is_lost(&client), "the connection went on: {name}");
    ensure!(udp(&host)?.readdressed == 0, "{:?}", udp(&host)?);
    Ok(())
}

#[test]
fn connections_stay_with_their_generation_over_promotes() -> Result<()> {
    let host = host("flow = \"quic\"")?;
    let clients = clients(&host)?;
    let mut open: Vec<(Client<'_>, String)> = Vec::new();
    let mut asked = 0;
    for number in 0..=PROMOTES {
        let generation = format!("gen{number}");
        let stop = AtomicBool::new(false);
        asked += thread::scope(|scope| {
            let asking = scope.spawn(|| ask_until(&stop, &open));
            let upgraded = upgrade(&host, &generation, 1);
            stop.store(true, Ordering::Release);
            let asked = asking.join().map_err(|_panic| anyhow!("panicked"))?;
            upgraded.and(asked)
        })?;
        for client in clients.several(CONNECTIONS_EACH)? {
            client.expect(&generation)?;
            open.push((client, generation.clone()));
        }
    }
    for (client, generation) in &open {
        client.expect(generation)?;
    }
    let udp = udp(&host)?;
    udp.check_balance()?;
    ensure!(udp.begun == open.len() as u64, "{udp:?}");
    ensure!(
        udp.moved == 0 && udp.readdressed == 0 && udp.evicted == 0,
        "{udp:?}"
    );
    report::figure("quic: questions over promotes", asked.to_string());
    report::figure("quic: connections kept", format!("{0} of {0}", open.len()));
    Ok(())
}

/// Asks all the while; says how often.
fn ask_until(stop: &AtomicBool, open: &[(Client<'_>, String)]) -> Result<u64> {
    let mut asked = 0;
    while !stop.load(Ordering::Acquire) {
        for (client, generation) in open {
            client.expect(generation)?;
            asked += 1;
        }
        thread::yield_now();
    }
    Ok(asked)
}

#[test]
fn a_client_that_migrates_is_found_by_what_its_id_says() -> Result<()> {
    let host = host("flow = \"quic\"\nquic_server_id = 2")?;
    let clients = clients(&host)?;
    upgrade(&host, "gen1", 1)?;
    let open = clients.several(8)?;
    for client in &open {
        client.expect("gen1")?;
    }
    upgrade(&host, "gen2", 1)?;
    for turn in 1..=2 {
        for client in &open {
            client.migrate()?;
            client
                .expect("gen1")
                .with_context(|| format!("turn {turn}"))?;
        }
    }
    clients.connect()?.expect("gen2")?;
    let udp = udp(&host)?;
    udp.check_balance()?;
    ensure!(udp.readdressed >= 16 && udp.moved == 0, "{udp:?}");
    Ok(())
}

#[test]
fn a_client_that_migrates_is_lost_if_its_id_says_nothing() -> Result<()> {
    let host = host("flow = \"quic\"")?;
    let clients = clients(&host)?;
    upgrade(&host, "gen1", 1)?;
    let client = clients.connect()?;
    settled(&client)?;
    upgrade(&host, "gen2", 1)?;
    client.migrate()?;
    ensure!(is_lost(&client), "the connection went on");
    Ok(())
}

#[test]
fn the_connection_of_a_generation_that_dies_is_nobodys() -> Result<()> {
    let host = host("flow = \"quic\"")?;
    let clients = clients(&host)?;
    upgrade(&host, "gen1", 1)?;
    let client = clients.connect()?;
    settled(&client)?;
    upgrade(&host, "gen2", 1)?;
    let pid = host.generation("gen1")?.process()?;
    kill_outright(pid)?;
    ensure!(is_lost(&client), "gen1 is dead, and somebody answered");
    let udp = udp(&host)?;
    udp.check_balance()?;
    ensure!(udp.moved == 1, "it moved once, and its id with it: {udp:?}");
    clients.connect()?.expect("gen2")
}

#[test]
fn what_cannot_be_is_refused() -> Result<()> {
    let cases = [
        (
            "flow = \"quic\"\nquic_server_id = 5",
            "quic_server_id: between 1 and 4 octets",
        ),
        (
            "flow = \"quic\"\nquic_server_id = 0",
            "quic_server_id: between 1 and 4 octets",
        ),
        (
            "flow = \"tuple\"\nquic_server_id = 2",
            "with flow = \"quic\" only",
        ),
        ("quic_server_id = 2", "with flow = \"quic\" only"),
        ("flow = \"QUIC\"", "unknown variant `QUIC`"),
    ];
    for (keys, expected) in cases {
        let refused = host(keys).err().context(keys)?;
        let refused = format!("{refused:#}");
        ensure!(refused.contains(expected), "{keys}: {refused}");
    }
    let tcp = Host::with_service("listen = [\"0.0.0.0:4433\"]\nquic_server_id = 2");
    let tcp = format!("{:#}", tcp.err().context("a service of TCP was taken")?);
    ensure!(tcp.contains("only udp:// addresses have flows"), "{tcp}");
    Ok(())
}

#[test]
fn the_room_for_ids_is_not_made_under_a_running_generation() -> Result<()> {
    let mut host = host("flow = \"tuple\"")?;
    upgrade(&host, "gen1", 1)?;
    host.kill_agent()?;
    let config = std::fs::read_to_string(host.config())?;
    host.write_config(&config.replace("\"tuple\"", "\"quic\""))?;
    let refused = host.start_agent().err().context("it was taken")?;
    let refused = format!("{refused:#}");
    ensure!(refused.contains("hotlb down"), "{refused}");
    host.write_config(&config)?;
    host.start_agent()?;
    clients(&host)?.connect()?.expect("gen1")
}
