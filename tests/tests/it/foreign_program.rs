//! Promise: another program that somebody attaches to a group of a service is noticed within a second, and hotlb's is
//! put back where the configuration says so.

use std::{
    net::{SocketAddr, TcpListener, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use hotlb::datapath::yardstick::Noop;
use hotlb_tests::{
    datagrams::Client,
    host::Host,
    report,
    servers::{Plain, Udp},
    wait,
};
use socket2::{Domain, Socket, Type};

const PORT: u16 = 5353;
const NOTICED: Duration = Duration::from_secs(2);

fn serving(keys: &str) -> Result<Host> {
    let host = Host::with_config(&format!(
        "[service.web]\nlisten = [\"0.0.0.0:{PORT}\"]\n{keys}\n\
         [service.dns]\nlisten = [\"udp://0.0.0.0:{PORT}\"]\nflow = \"none\"\n{keys}\n"
    ))?;
    let deploy = |service: &str, command: Vec<String>| {
        let mut arguments = vec!["deploy", "--service", service, "--generation", "gen1", "--"];
        arguments.extend(command.iter().map(String::as_str));
        host.ok(&arguments)?;
        host.ok(&["promote", "--service", service, "gen1"])
    };
    deploy(
        "web",
        Plain::new("gen1")
            .listen(&format!("0.0.0.0:{PORT}"))
            .command()?,
    )?;
    deploy("dns", Udp::new("gen1", PORT).command()?)?;
    Ok(host)
}

/// A socket in the group that nobody reads, with a program attached through it that decides nothing. It leaves the group
/// at once; the program stays.
fn attach_foreign(host: &Host, kind: Type) -> Result<()> {
    host.netns().run(|| {
        let socket = Socket::new(Domain::IPV4, kind, None)?;
        socket.set_reuse_port(true)?;
        socket.set_reuse_address(kind == Type::STREAM)?;
        socket.bind(&SocketAddr::from(([0, 0, 0, 0], PORT)).into())?;
        if kind == Type::STREAM {
            socket.listen(1)?;
            Noop::attach(TcpListener::from(socket))?;
        } else {
            Noop::attach(UdpSocket::from(socket))?;
        }
        anyhow::Ok(())
    })?
}

fn warning(host: &Host, service: &str, part: &str) -> Option<String> {
    let status = host.status().ok()?;
    let service = status.service(service).ok()?;
    let found = service.warnings.iter().find(|w| w.contains(part))?;
    Some(found.clone())
}

#[test]
fn another_program_is_noticed_and_named() -> Result<()> {
    let host = serving("")?;
    ensure!(warning(&host, "web", "decides").is_none());
    ensure!(warning(&host, "dns", "decides").is_none());
    for (service, kind, address) in [
        ("web", Type::STREAM, "0.0.0.0:5353: another program"),
        ("dns", Type::DGRAM, "udp://0.0.0.0:5353: another program"),
    ] {
        attach_foreign(&host, kind)?;
        let begun = Instant::now();
        wait::until("it is noticed", NOTICED, || {
            warning(&host, service, address)
        })?;
        let took = begun.elapsed().as_millis();
        report::figure(
            &format!("foreign_programs: {service} noticed after, ms"),
            took.to_string(),
        );
    }
    let log = host.agent_log();
    ensure!(
        log.contains("another program is attached to the group in place of hotlb's"),
        "{log}"
    );
    Ok(())
}

#[test]
fn hotlbs_program_is_put_back_where_that_is_configured() -> Result<()> {
    let host = serving("foreign_program = \"restore\"")?;
    for (service, kind) in [("web", Type::STREAM), ("dns", Type::DGRAM)] {
        attach_foreign(&host, kind)?;
        wait::until("it is put back", NOTICED, || {
            warning(&host, service, "restored 1 times")
        })?;
        ensure!(warning(&host, service, "decides").is_none());
    }
    // The program decides again: datagrams are counted.
    let client = Client::new(host.netns(), ([127, 0, 0, 1], PORT).into())?;
    let active = |host: &Host| {
        let status = host.status()?;
        let udp = status.service("dns")?.udp.clone();
        anyhow::Ok(udp.map_or(0, |udp| {
            udp.exits.get("active").copied().unwrap_or_default()
        }))
    };
    let before = active(&host)?;
    client.expect("gen1")?;
    ensure!(active(&host)? == before + 1);
    Ok(())
}
