//! The same upgrades with hotlb and with bare `SO_REUSEPORT` overlap.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result};
use hotlb::sys::{
    netns::Netns,
    sock_diag::{self, Protocol},
};
use hotlb_tests::{
    host::Host,
    load::{Load, Outcome, Plan},
    process::Process,
    report,
    servers::Nginx,
    wait,
};
use nix::sys::signal::Signal;

use crate::Scale;

const TARGET: &str = "127.0.0.1:8080";
const LIMIT: Duration = Duration::from_secs(20);
/// Answers between two upgrades.
const BETWEEN: u64 = 4000;

pub(crate) fn measure(scale: Scale) -> Result<()> {
    let upgrades = scale.rounds(20);
    for migrate in ["0", "1"] {
        for (how, signal) in [
            ("closes in order", Signal::SIGQUIT),
            ("is killed", Signal::SIGKILL),
        ] {
            let outcome = bare(upgrades, migrate, signal)?;
            let name = format!("bare overlap, the former {how}, tcp_migrate_req={migrate}");
            show(&name, upgrades, &outcome);
        }
    }
    show("hotlb", upgrades, &with_hotlb(upgrades)?);
    Ok(())
}

fn show(name: &str, upgrades: usize, outcome: &Outcome) {
    report::figure(
        name,
        format!(
            "{upgrades} upgrades, {} requests, {} failed, {} slower than 250 ms, slowest {} ms",
            outcome.requests(),
            outcome.failed,
            outcome.slow,
            outcome.max.as_millis()
        ),
    );
}

fn with_hotlb(upgrades: usize) -> Result<Outcome> {
    let host = Host::with_service("listen = [\"0.0.0.0:8080\"]")?;
    host.upgrade("gen0", &nginx(&host, 0, Signal::SIGQUIT)?)?;
    let load = Load::start(host.netns(), Plan::new(TARGET.parse()?))?;
    for number in 1..=upgrades {
        load.wait_more(BETWEEN, LIMIT)?;
        host.upgrade(
            &format!("gen{number}"),
            &nginx(&host, number, Signal::SIGQUIT)?,
        )?;
    }
    load.wait_more(BETWEEN, LIMIT)?;
    load.stop()
}

fn bare(upgrades: usize, migrate: &str, signal: Signal) -> Result<Outcome> {
    let host = Host::without_agent()?;
    host.netns().sysctl("net/ipv4/tcp_migrate_req", migrate)?;
    let mut current = start(&host, 0, 1, signal)?;
    let load = Load::start(host.netns(), Plan::new(TARGET.parse()?))?;
    for number in 1..=upgrades {
        load.wait_more(BETWEEN, LIMIT)?;
        let mut former = std::mem::replace(&mut current, start(&host, number, 2, signal)?);
        former.signal(signal)?;
        former.wait(LIMIT)?;
    }
    load.wait_more(BETWEEN, LIMIT)?;
    load.stop()
}

/// Starts one more nginx on the port and waits until `listeners` sockets listen there.
fn start(host: &Host, number: usize, listeners: usize, signal: Signal) -> Result<Process> {
    let line = nginx(host, number, signal)?;
    let (program, arguments) = line.split_first().context("an empty command line")?;
    let process = Process::start(
        host.netns().command(program).args(arguments),
        &host.directory().join("nginx.log"),
    )?;
    let port = TARGET.parse::<SocketAddr>()?.port();
    wait::until_true("nginx listens", LIMIT, || {
        let waiting = host
            .netns()
            .run(|| sock_diag::waiting(&Netns::own(), Protocol::Tcp));
        waiting.is_ok_and(|waiting| {
            waiting.is_ok_and(|all| {
                all.iter().filter(|w| w.address.port() == port).count() >= listeners
            })
        })
    })?;
    Ok(process)
}

/// One worker. A master to end in order by, for a single process takes SIGQUIT for "at once"; no
/// master where it is killed, so that the kill takes all of it.
fn nginx(host: &Host, number: usize, signal: Signal) -> Result<Vec<String>> {
    let nginx = Nginx::new(&format!("gen{number}")).listen("0.0.0.0:8080 reuseport");
    let nginx = match signal {
        Signal::SIGKILL => nginx.single_process(),
        _ => nginx,
    };
    nginx.command(host.directory())
}
