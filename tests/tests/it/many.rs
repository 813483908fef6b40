//! Promise: generations drain beside each other, and none of them holds up a promote; a generation may listen on
//! a thousand sockets, and sixty-four of them may be kept.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use hotlb_tests::{
    held::Held,
    host::Host,
    load::Plan,
    report,
    servers::{Kind, Plain},
};

const LISTEN: &str = "0.0.0.0:8080";
const TARGET: &str = "127.0.0.1:8080";
const LIMIT: Duration = Duration::from_secs(30);
/// A promote that waits for a drain here takes ten times as long.
const SOON: Duration = Duration::from_secs(2);
const LISTENERS: usize = 1_000;
/// Generations that can be kept for a rollback.
const KEPT: usize = 64;

#[test]
fn several_drain_while_others_are_promoted() -> Result<()> {
    let host = Host::with_service(&format!(
        "listen = [\"{LISTEN}\"]\ndrain = {{ polite = \"off\", deadline = \"30s\" }}\n"
    ))?;
    let target: SocketAddr = TARGET.parse()?;
    let mut held = Vec::new();
    let began = Instant::now();
    for generation in ["gen1", "gen2", "gen3", "gen4"] {
        let server = Kind::Plain.command(host.directory(), generation, target.port())?;
        host.deploy(generation, &server)?;
        let asked = Instant::now();
        host.ok(&["promote", generation, "--no-wait"])?;
        ensure!(
            asked.elapsed() < SOON,
            "{generation}: {:?}",
            asked.elapsed()
        );
        host.expect_answers(target, 20, generation)?;
        let until_all_are_there = Duration::from_secs(20).saturating_sub(began.elapsed());
        held.push(Held::open(host.netns(), target, vec![until_all_are_there])?);
    }
    let web = host.web()?;
    for generation in ["gen1", "gen2", "gen3"] {
        let found = host.generation(generation)?;
        let is_told = ["draining", "stopping"].contains(&found.state.as_str());
        ensure!(is_told && found.connections.live == 1, "{web:#?}");
    }
    // A rollback to one that drains does not wait either.
    let asked = Instant::now();
    host.ok(&["rollback", "--no-wait"])?;
    ensure!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
    host.expect_answers(target, 20, "gen3")?;
    for (held, generation) in held.into_iter().zip(["gen1", "gen2", "gen3", "gen4"]) {
        for ending in held.finish()? {
            let answer = ending.result.as_ref();
            ensure!(
                answer.is_ok_and(|answer| answer.generation == generation),
                "{ending:?}"
            );
        }
    }
    Ok(())
}

#[test]
fn a_thousand_listeners_are_one_generation() -> Result<()> {
    let host = Host::with_service(&format!("listen = [\"{LISTEN}\"]\n"))?;
    let target: SocketAddr = TARGET.parse()?;
    let server = |name: &str| {
        let plain = (0..LISTENERS).fold(Plain::new(name), |plain, _| plain.listen(LISTEN));
        plain.command()
    };
    host.upgrade("gen1", &server("gen1")?)?;
    let load = host.load(Plan::new(target).workers(8))?;
    load.wait_more(500, LIMIT)?;
    let began = Instant::now();
    host.upgrade("gen2", &server("gen2")?)?;
    report::figure(
        "an upgrade between generations of 1,000 listeners each",
        format!("{} ms", began.elapsed().as_millis()),
    );
    let listeners = host.generation("gen2")?.listeners.len();
    ensure!(listeners == LISTENERS, "{listeners} listeners");
    load.wait_more(500, LIMIT)?;
    host.ok(&["rollback"])?;
    load.wait_more(500, LIMIT)?;
    let outcome = load.stop()?;
    report::figure("requests meanwhile", outcome.requests());
    outcome.expect_none_lost()?;
    host.expect_answers(target, 50, "gen1")
}

#[test]
fn as_many_generations_are_kept_as_configured() -> Result<()> {
    let host = Host::with_service(&format!(
        "listen = [\"{LISTEN}\"]\nkeep = {{ generations = {KEPT}, for = \"1h\" }}\n"
    ))?;
    let target: SocketAddr = TARGET.parse()?;
    let load = host.load(Plan::new(target).workers(4))?;
    // One is active, and one more was let go.
    let last = KEPT + 2;
    for number in 1..=last {
        let name = format!("gen{number}");
        host.upgrade(&name, &Plain::new(&name).listen(LISTEN).command()?)?;
    }
    host.wait_state(&format!("gen{}", last - 1), &["standby"])?;
    host.wait_state("gen1", &["stopped"])?;
    let web = host.web()?;
    let kept = web.generations.iter().filter(|g| g.state == "standby");
    let kept = kept.count();
    ensure!(kept == KEPT, "{kept} are kept");
    host.expect_answers(target, 20, &format!("gen{last}"))?;
    // The oldest of them is as near as the newest.
    host.ok(&["rollback", "--to", "gen2", "--no-wait"])?;
    host.expect_answers(target, 20, "gen2")?;
    load.stop()?.expect_none_lost()
}
