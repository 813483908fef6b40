//! What one run of `steer_udp` costs beside a program that does nothing.

use std::net::{SocketAddr, UdpSocket};

use anyhow::{Context as _, Result};
use hotlb::datapath::yardstick::{self, Noop, Runs, Statistics};
use hotlb_tests::{datagrams::Client, host::Host, report, servers::Udp};
use socket2::{Domain, Socket, Type};

use crate::{
    Scale,
    sample::{Sample, against_aim},
};

const FLOWS: &str = "127.0.0.1:5353";
const NONE: &str = "127.0.0.1:5454";
const BARE: &str = "127.0.0.1:5555";
const CLIENTS: usize = 64;
/// Datagrams a client sends in a round.
const EACH: usize = 60;
/// Half of what udpgrm's own comparison says of it.
const AIM: f64 = 178.0;

pub(crate) fn measure(scale: Scale) -> Result<()> {
    let host = Host::with_config(
        "[service.flows]\nlisten = [\"udp://127.0.0.1:5353\"]\n\
         [service.none]\nlisten = [\"udp://127.0.0.1:5454\"]\nflow = \"none\"\n",
    )?;
    serve(&host, "flows", FLOWS)?;
    serve(&host, "none", NONE)?;
    let bare = host.netns().run(bare)??;
    let noop = Noop::attach(&bare)?;
    let answering = bare.try_clone()?;
    let thread = std::thread::spawn(move || answer(&answering));
    let clients = |target: &str| Client::several(host.netns(), target.parse()?, CLIENTS);
    let (flows, none, bares) = (clients(FLOWS)?, clients(NONE)?, clients(BARE)?);
    let _statistics = Statistics::on()?;
    let mut noops = Vec::new();
    let mut kept = Vec::new();
    let mut without = Vec::new();
    for _ in 0..scale.rounds(15) {
        noops.extend(round(&bares, || Ok(noop.runs()?))?);
        kept.extend(round(&flows, || runs(&host, "flows", FLOWS))?);
        without.extend(round(&none, || runs(&host, "none", NONE))?);
    }
    let above = |runs: &[f64]| -> Sample {
        let pairs = runs.iter().zip(&noops);
        pairs.map(|(run, noop)| run - noop).collect()
    };
    let (kept_above, none_above) = (above(&kept), above(&without));
    report::figure(
        "no-op on datagrams, ns per run",
        noops.into_iter().collect::<Sample>().describe(0),
    );
    report::figure(
        "steer_udp without flows, above the no-op, ns",
        none_above.describe(0),
    );
    against_aim(
        "steer_udp with flows, above the no-op, ns",
        &kept_above.describe(0),
        &format!("at most {AIM}"),
        kept_above.median() <= AIM,
    );
    let last = bares.first().context("a client")?;
    last.send("quit")?;
    thread
        .join()
        .map_err(|panic| anyhow::anyhow!("the bare server panicked: {panic:?}"))?
}

fn serve(host: &Host, service: &str, address: &str) -> Result<()> {
    let server = Udp::at("gen1", address).command()?;
    let mut arguments = vec!["deploy", "--service", service, "--generation", "gen1", "--"];
    arguments.extend(server.iter().map(String::as_str));
    host.ok(&arguments)?;
    host.ok(&["promote", "--service", service, "gen1"])?;
    Ok(())
}

fn runs(host: &Host, service: &str, address: &str) -> Result<Runs> {
    let address: SocketAddr = address.parse()?;
    Ok(yardstick::steer_udp(host.bpffs(), service, address)?)
}

/// Nanoseconds a run, over what all clients send one after the other.
fn round(clients: &[Client], runs: impl Fn() -> Result<Runs>) -> Result<Option<f64>> {
    let before = runs()?;
    for _ in 0..EACH {
        for client in clients {
            client.ask()?;
        }
    }
    Ok(runs()?.each_since(before))
}

fn bare() -> Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    socket.set_reuse_port(true)?;
    socket.bind(&BARE.parse::<SocketAddr>()?.into())?;
    Ok(socket.into())
}

/// Answers until one says quit.
fn answer(socket: &UdpSocket) -> Result<()> {
    let mut datagram = [0; 64];
    loop {
        let (length, client) = socket.recv_from(&mut datagram)?;
        socket.send_to(b"bare", client)?;
        if datagram.get(..length) == Some(b"quit") {
            return Ok(());
        }
    }
}
