//! Promise: the bytes of a generation's connections are counted in the kernel, and are what its clients count, however
//! the connections end.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Result, ensure};
use hotlb_tests::{
    exposition::{Exposition, OPENMETRICS},
    host::Host,
    http, report,
    servers::{Kind, Plain},
    wait,
};
use socket2::SockRef;

const LISTEN: &str = "0.0.0.0:8080";
const TARGET: &str = "127.0.0.1:8080";
const LIMIT: Duration = Duration::from_secs(15);

/// What a client sent and received.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Bytes {
    sent: u64,
    received: u64,
}

impl Bytes {
    fn plus(self, other: Self) -> Self {
        Self {
            sent: self.sent + other.sent,
            received: self.received + other.received,
        }
    }
}

/// How a connection ends.
#[derive(Debug, Clone, Copy)]
enum End {
    /// The server closes it after its answer.
    Server,
    /// The client closes it after so many answers.
    Client(usize),
    /// The client closes its direction, and waits for the server's.
    Half,
    /// The client resets it after an answer.
    Reset,
}

const ENDS: [End; 5] = [
    End::Server,
    End::Client(1),
    End::Client(7),
    End::Half,
    End::Reset,
];

/// One connection; what its client counts.
fn converse(target: SocketAddr, end: End) -> Result<Bytes> {
    let mut stream = TcpStream::connect(target)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let mut counted = Bytes::default();
    let requests = if let End::Client(count) = end {
        count
    } else {
        1
    };
    for _ in 0..requests {
        let request = http::request(target, "/", !matches!(end, End::Server));
        stream.write_all(&request)?;
        counted.sent += request.len() as u64;
        counted.received += answer(&mut stream)?;
    }
    match end {
        End::Server => counted.received += rest(&mut stream)?,
        End::Half => {
            stream.shutdown(Shutdown::Write)?;
            counted.received += rest(&mut stream)?;
        }
        End::Reset => SockRef::from(&stream).set_linger(Some(Duration::ZERO))?,
        End::Client(_) => {}
    }
    Ok(counted)
}

/// Reads an answer, whose body ends with its only second line break in a row and a name.
fn answer(stream: &mut TcpStream) -> Result<u64> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    let whole = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        let body = text.split_once("\r\n\r\n");
        body.is_some_and(|(_, body)| body.ends_with('\n'))
    };
    while !whole(&bytes) {
        stream.read_exact(&mut byte)?;
        bytes.extend(byte);
    }
    Ok(bytes.len() as u64)
}

fn rest(stream: &mut TcpStream) -> Result<u64> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    Ok(bytes.len() as u64)
}

/// What is counted of a generation.
fn counted(host: &Host, generation: &str) -> Result<Bytes> {
    let connections = host.generation(generation)?.connections;
    Ok(Bytes {
        sent: connections.received_bytes,
        received: connections.sent_bytes,
    })
}

/// Clients of all kinds; the kernel counts for `generation` what they do.
fn expect_counted(host: &Host, generation: &str, target: SocketAddr) -> Result<()> {
    wait::until_true("the probes are over", LIMIT, || {
        host.generation(generation)
            .is_ok_and(|g| g.connections.live == 0)
    })?;
    let before = counted(host, generation)?;
    for end in ENDS {
        let before = counted(host, generation)?;
        let clients = host.netns().run(|| {
            (0..20).try_fold(Bytes::default(), |sum, _| {
                anyhow::Ok(sum.plus(converse(target, end)?))
            })
        })??;
        let wanted = before.plus(clients);
        let same = wait::until_true("all is counted", LIMIT, || {
            counted(host, generation).is_ok_and(|found| found == wanted)
        });
        let found = counted(host, generation)?;
        ensure!(same.is_ok(), "{end:?}: {found:?}, not {wanted:?}");
    }
    let after = counted(host, generation)?;
    report::figure(
        &format!("bytes of 100 connections of {generation}, as their clients count"),
        format!(
            "{} received, {} sent",
            after.sent - before.sent,
            after.received - before.received
        ),
    );
    Ok(())
}

#[test]
fn bytes_are_what_the_clients_count() -> Result<()> {
    let mut host = Host::with_service(&format!("listen = [\"{LISTEN}\"]\n"))?;
    let target = TARGET.parse()?;
    host.upgrade("gen1", &Plain::new("gen1").listen(LISTEN).command()?)?;
    expect_counted(&host, "gen1", target)?;
    host.upgrade(
        "gen2",
        &Kind::Plain.command(host.directory(), "gen2", target.port())?,
    )?;
    expect_counted(&host, "gen2", target)?;
    host.kill_agent()?;
    host.start_agent()?;
    expect_counted(&host, "gen2", target)?;
    let scrape = Exposition::of(&host, OPENMETRICS)?;
    for name in ["received", "sent"] {
        let of_generations = scrape.sum(&format!("hotlb_{name}_bytes_total"), &[])?;
        let of_service = scrape.value(&format!("hotlb_service_{name}_bytes_total"), &[])?;
        ensure!(
            of_service > 0.0 && (of_service - of_generations).abs() < 0.5,
            "{}",
            scrape.text
        );
    }
    Ok(())
}
