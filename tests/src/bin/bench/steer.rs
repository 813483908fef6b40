//! What one run of `steer` costs beside a program that does nothing.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use anyhow::{Context as _, Result};
use hotlb::{
    datapath::yardstick::{self, Noop, Statistics},
    sys::listener::{self, GroupKey},
};
use hotlb_tests::{
    host::Host,
    load::{Load, Plan},
    report,
    servers::Nginx,
};

use crate::{
    Scale,
    sample::{Sample, against_aim},
};

const STEERED: &str = "127.0.0.1:8080";
const BARE: &str = "127.0.0.1:8081";
/// New connections a round; each runs the program once.
const EACH: u64 = 4000;
const LIMIT: Duration = Duration::from_secs(30);
const AIM: f64 = 120.0;

pub(crate) fn measure(scale: Scale) -> Result<()> {
    let host = Host::with_service("listen = [\"127.0.0.1:8080\"]")?;
    let server = Nginx::new("gen1").listen(STEERED);
    host.deploy("gen1", &server.command(host.directory())?)?;
    host.promote("gen1")?;
    let bare = host.netns().run(|| listener::open(&group_key()))??;
    let noop = Noop::attach(&bare)?;
    let answering = host.netns().spawn("bare", move || answer(&bare.into()))?;
    let _statistics = Statistics::on()?;
    let steered: SocketAddr = STEERED.parse()?;
    let mut noops = Vec::new();
    let mut steers = Vec::new();
    for _ in 0..scale.rounds(15) {
        let before = noop.runs()?;
        connect(&host, BARE.parse()?)?;
        noops.extend(noop.runs()?.each_since(before));
        let before = yardstick::steer(host.bpffs(), "web", steered)?;
        connect(&host, steered)?;
        steers.extend(yardstick::steer(host.bpffs(), "web", steered)?.each_since(before));
    }
    let above: Sample = steers
        .iter()
        .zip(&noops)
        .map(|(steer, noop)| steer - noop)
        .collect();
    report::figure(
        "no-op, ns per run",
        noops.into_iter().collect::<Sample>().describe(0),
    );
    report::figure(
        "steer, ns per run",
        steers.into_iter().collect::<Sample>().describe(0),
    );
    against_aim(
        "steer above the no-op, ns",
        &above.describe(0),
        &format!("at most {AIM}"),
        above.median() <= AIM,
    );
    // The last connection ends the answering thread.
    host.netns().run(|| quit(BARE))??;
    answering
        .join()
        .map_err(|panic| anyhow::anyhow!("the bare server panicked: {panic:?}"))?
}

fn group_key() -> GroupKey {
    GroupKey {
        address: SocketAddr::from(([127, 0, 0, 1], 8081)),
        v6only: false,
        uid: 0,
    }
}

fn connect(host: &Host, target: SocketAddr) -> Result<()> {
    let load = Load::start(host.netns(), Plan::new(target).max_requests(EACH))?;
    load.wait_for("the round", LIMIT, |outcome| outcome.requests() >= EACH)?;
    load.stop()?.expect_none_failed()
}

/// Answers one request a connection until one says QUIT.
fn answer(listener: &TcpListener) -> Result<()> {
    let mut request = [0; 1024];
    loop {
        let (mut stream, _) = listener.accept().context("accept")?;
        let length = stream.read(&mut request)?;
        if request
            .get(..length)
            .is_some_and(|text| text.starts_with(b"QUIT"))
        {
            return Ok(());
        }
        stream.write_all(
            b"HTTP/1.1 200 OK\r\nX-Generation: bare\r\nContent-Length: 5\r\nConnection: close\r\n\r\nbare\n",
        )?;
    }
}

fn quit(target: &str) -> Result<()> {
    Ok(std::net::TcpStream::connect(target)?.write_all(b"QUIT")?)
}
