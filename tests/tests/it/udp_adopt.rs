//! Promise: a UDP server that runs already, and shares its port, is taken over without a restart; a client that it has stays
//! with it.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{
    datagrams::Client, host::Host, process::Process, servers::Udp, units::Units, wait,
};

const PORT: u16 = 5353;
const UNIT: &str = "dns.service";
const CLIENTS: usize = 8;
const LIMIT: Duration = Duration::from_secs(15);

/// A server that ran before hotlb, its clients, and an agent that waits to adopt it.
struct Scene {
    host: Host,
    clients: Vec<Client>,
    server: Process,
    _units: Units,
}

impl Scene {
    fn with(sockets: u32) -> Result<Self> {
        let mut host = host()?;
        let units = Units::new(&host)?;
        let server = Udp::new("gen1", PORT).option("--sockets", sockets);
        let server = units.start(&host, UNIT, &server.command()?)?;
        let clients = Client::several(host.netns(), target(), CLIENTS)?;
        let answered = || clients.iter().all(|client| client.expect("gen1").is_ok());
        wait::until_true("the server answers", LIMIT, answered)?;
        host.start_agent()?;
        Ok(Self {
            host,
            clients,
            server,
            _units: units,
        })
    }

    fn adopt(&self) -> Result<()> {
        self.host
            .ok(&["adopt", "--generation", "gen1", "--unit", UNIT])?;
        let web = self.host.web()?;
        ensure!(!web.awaits_adopt, "{web:#?}");
        let gen1 = web.generation("gen1")?;
        ensure!(
            gen1.state == "active" && gen1.listeners.len() == 2,
            "{gen1:#?}"
        );
        ensure!(gen1.listeners.iter().all(|l| l.steered), "{gen1:#?}");
        Ok(())
    }

    fn all_expect(&self, generation: &str) -> Result<()> {
        self.clients
            .iter()
            .try_for_each(|client| client.expect(generation))
    }

    fn upgrade(&self) -> Result<()> {
        self.host
            .deploy("gen2", &Udp::new("gen2", PORT).command()?)?;
        self.host
            .ok(&["promote", "--no-wait", "gen2"])
            .map(|_run| ())
    }
}

/// Its agent, once it is started, may adopt a server.
fn host() -> Result<Host> {
    let host = Host::without_agent()?;
    host.write_config(&format!(
        "[service.web]\nlisten = [\"udp://0.0.0.0:{PORT}\"]\nadopt = true\n"
    ))?;
    Ok(host)
}

fn target() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], PORT))
}

/// A flow begins with the first datagram after the adoption, whoever the client was before.
#[test]
fn clients_stay_and_new_ones_are_steered() -> Result<()> {
    let mut scene = Scene::with(2)?;
    let web = scene.host.web()?;
    ensure!(web.awaits_adopt, "{web:#?}");
    let says = format!("hotlb adopt --service web --generation gen1 --unit {UNIT}");
    let held = format!("udp://0.0.0.0:{PORT}");
    let warned = |w: &String| w.contains(&says) && w.contains(&held);
    ensure!(web.warnings.iter().any(warned), "{:?}", web.warnings);

    scene.adopt()?;
    scene.all_expect("gen1")?;
    scene.upgrade()?;
    scene.all_expect("gen1")?;
    Client::new(scene.host.netns(), target())?.expect("gen2")?;
    let udp = scene.host.web()?.udp.context("a UDP side")?;
    ensure!(udp.moved == 0 && udp.exit("nobody")? == 0, "{udp:?}");
    udp.check_balance()?;

    scene.host.ok(&["stop", "gen1"])?;
    scene.server.wait(LIMIT)?;
    scene.all_expect("gen2")
}

#[test]
fn an_agent_killed_after_it_adopted_finds_the_server_again() -> Result<()> {
    let mut scene = Scene::with(2)?;
    scene.adopt()?;
    scene.all_expect("gen1")?;
    for _ in 0..2 {
        scene.host.kill_agent()?;
        scene.all_expect("gen1")?;
        scene.host.start_agent()?;
        let web = scene.host.web()?;
        ensure!(
            !web.awaits_adopt && web.active.as_deref() == Some("gen1"),
            "{web:#?}"
        );
    }
    scene.upgrade()?;
    scene.all_expect("gen1")?;
    Client::new(scene.host.netns(), target())?.expect("gen2")
}

/// Nothing is changed then, and the clients are served.
#[test]
fn a_server_that_does_not_share_its_port_is_refused() -> Result<()> {
    let scene = Scene::with(1)?;
    scene
        .host
        .hotlb(&["adopt", "--generation", "gen1", "--unit", UNIT])?
        .expect_code(6)?
        .expect_stderr(&["SO_REUSEPORT", "hotlb upgrade --service web"])?;
    let web = scene.host.web()?;
    ensure!(web.awaits_adopt && web.active.is_none(), "{web:#?}");
    scene.all_expect("gen1")
}

#[test]
fn a_server_elsewhere_is_refused() -> Result<()> {
    let scene = Scene::with(2)?;
    let units = Units::new(&scene.host)?;
    let other = Udp::new("other", PORT + 1).command()?;
    let other = units.start(&scene.host, "other.service", &other)?;
    let client = Client::new(
        scene.host.netns(),
        SocketAddr::from(([127, 0, 0, 1], PORT + 1)),
    )?;
    wait::until_true("the other server answers", LIMIT, || {
        client.expect("other").is_ok()
    })?;
    scene
        .host
        .hotlb(&["adopt", "--pid", &other.pid().to_string()])?
        .expect_code(6)?
        .expect_one_line_error()?
        .expect_stderr(&["no UDP socket of its own", "0.0.0.0:5353", "0.0.0.0:5354"])?;
    scene.all_expect("gen1")
}

/// Such as a resolver on the loopback beside a server of all addresses.
#[test]
fn a_server_of_one_address_of_all_is_not_waited_for() -> Result<()> {
    let mut host = host()?;
    let units = Units::new(&host)?;
    let other = Udp::at("other", "127.0.0.2:5353").option("--sockets", 2);
    let _other = units.start(&host, "other.service", &other.command()?)?;
    let client = Client::new(host.netns(), SocketAddr::from(([127, 0, 0, 2], PORT)))?;
    wait::until_true("the other server answers", LIMIT, || {
        client.expect("other").is_ok()
    })?;
    host.start_agent()?;
    let web = host.web()?;
    ensure!(!web.awaits_adopt, "{web:#?}");
    host.upgrade("gen1", &Udp::new("gen1", PORT).command()?)?;
    Client::new(host.netns(), target())?.expect("gen1")?;
    client.expect("other")
}
