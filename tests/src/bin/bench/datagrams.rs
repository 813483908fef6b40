//! Datagrams asked and answered per second, with flows, without, and without hotlb.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use hotlb_tests::{datagrams::Client, host::Host, process::Process, report, servers::Udp, wait};

use crate::{
    Scale,
    sample::{Sample, against_aim},
};

const FLOWS: &str = "127.0.0.1:5353";
const NONE: &str = "127.0.0.1:5454";
const PLAIN: &str = "127.0.0.1:5555";
/// Sockets of each server, of which the group has to choose one.
const SOCKETS: u32 = 2;
const CLIENTS: usize = 8;
/// Datagrams each client sends in a turn, waiting for an answer to each.
const EACH: u32 = 2_000;
const ROUNDS: usize = 40;
const LIMIT: Duration = Duration::from_secs(10);
const AIM: f64 = 0.98;

pub(crate) fn measure(scale: Scale) -> Result<()> {
    let host = Host::with_config(
        "[service.flows]\nlisten = [\"udp://127.0.0.1:5353\"]\n\
         [service.none]\nlisten = [\"udp://127.0.0.1:5454\"]\nflow = \"none\"\n",
    )?;
    for (service, address) in [("flows", FLOWS), ("none", NONE)] {
        host.upgrade_of(service, "gen1", &server(address)?)?;
    }
    let _plain = plain(&host)?;
    let targets = [FLOWS, NONE, PLAIN];
    let mut rates: [Vec<f64>; 3] = Default::default();
    for round in 0..scale.rounds(ROUNDS) {
        // Who goes first changes from round to round.
        for step in 0..targets.len() {
            let which = (round + step) % targets.len();
            if let (Some(target), Some(rates)) = (targets.get(which), rates.get_mut(which)) {
                rates.push(turn(&host, target.parse()?)?);
            }
        }
    }
    let [flows, none, plain] = rates;
    let ratio = |rates: &[f64]| -> Sample {
        let pairs = rates.iter().zip(&plain);
        pairs.map(|(rate, plain)| rate / plain).collect()
    };
    let ratios = [("flows", ratio(&flows)), ("no flows", ratio(&none))];
    let shown = [
        ("flows", flows),
        ("no flows", none),
        ("plain SO_REUSEPORT", plain),
    ];
    for (name, rates) in shown {
        let rates: Sample = rates.into_iter().collect();
        report::figure(
            &format!("{name}: datagrams answered per second"),
            rates.describe(0),
        );
    }
    for (name, ratio) in ratios {
        against_aim(
            &format!("{name} beside plain SO_REUSEPORT, round by round"),
            &ratio.describe(3),
            &format!("at least {AIM}"),
            ratio.median() >= AIM,
        );
    }
    Ok(())
}

fn server(address: &str) -> Result<Vec<String>> {
    Udp::at("gen1", address)
        .option("--sockets", SOCKETS)
        .command()
}

fn plain(host: &Host) -> Result<Process> {
    let process = host.start_beside(&server(PLAIN)?)?;
    let client = Client::new(host.netns(), PLAIN.parse()?)?;
    wait::until_true("the plain server answers", LIMIT, || client.ask().is_ok())?;
    Ok(process)
}

/// Datagrams answered per second.
fn turn(host: &Host, target: SocketAddr) -> Result<f64> {
    let clients = Client::several(host.netns(), target, CLIENTS)?;
    let began = Instant::now();
    let threads = clients
        .into_iter()
        .map(|client| thread::spawn(move || (0..EACH).try_for_each(|_| client.ask().map(drop))));
    let threads: Vec<_> = threads.collect();
    for thread in threads {
        let ended = thread.join();
        ended.map_err(|panic| anyhow!("a client panicked: {panic:?}"))??;
    }
    let clients = u32::try_from(CLIENTS)?;
    Ok(f64::from(clients * EACH) / began.elapsed().as_secs_f64())
}
