//! Promise: at the drain's deadline, and not before, what is left is ended; the history lists every connection that
//! was, and nobody else's answer is cut.

#![expect(
    clippy::indexing_slicing,
    reason = "what is not there is null to serde_json's index"
)]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{
    held::{Ending, Held},
    host::Host,
    report,
    servers::{Kind, Plain},
    wait,
};
use serde_json::Value;

const TARGET: &str = "127.0.0.1:8080";
const LIMIT: Duration = Duration::from_secs(15);
const DEADLINE: Duration = Duration::from_secs(30);
/// How far from the deadline a connection may be cut, seen by its client.
/// With the time in which a server that is told at the deadline may finish.
const TOLERANCE: Duration = Duration::from_millis(350);
const CONNECTIONS: u32 = 500;
/// The longest answer.
const LONGEST: u64 = 40_000;

/// So many lengths up to [`LONGEST`] milliseconds, in no order (a linear congruential sequence).
fn lengths() -> Vec<Duration> {
    let mut state = 20_240_607_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        Duration::from_millis((state >> 33) % LONGEST)
    };
    (0..CONNECTIONS).map(|_| next()).collect()
}

/// The newest rollout's list of connections that were cut: age in milliseconds by peer.
fn cut_list(host: &Host) -> Result<BTreeMap<SocketAddr, u64>> {
    let list = host.ok(&["history", "--output", "json"])?;
    let list: Value = serde_json::from_str(&list.stdout)?;
    let id = list["rollouts"][0]["id"]
        .as_str()
        .context("a rollout has an id")?;
    let told = host.ok(&["history", "show", id, "--output", "json"])?;
    let told: Value = serde_json::from_str(&told.stdout)?;
    let entries = told["entries"].as_array().context("no entries")?;
    let mut cut = BTreeMap::new();
    for record in entries.iter().map(|entry| &entry["record"]) {
        for connection in record["connections"].as_array().into_iter().flatten() {
            let peer = connection["peer"].as_str().context("no peer")?.parse()?;
            let age = connection["age_ms"].as_u64().context("no age")?;
            ensure!(connection["how"] == "closed", "{connection}");
            ensure!(cut.insert(peer, age).is_none(), "{peer} is listed twice");
        }
    }
    Ok(cut)
}

/// The moment from which new connections are seen at `generation`, and the one before it at which they were not.
fn moved(host: &Host, generation: &str) -> Result<Instant> {
    wait::until(&format!("{generation} is active"), LIMIT, || {
        let web = host.web().ok()?;
        (web.active.as_deref() == Some(generation)).then(Instant::now)
    })
}

#[test]
fn who_is_within_the_deadline_completes_and_the_rest_is_cut_and_listed() -> Result<()> {
    let host = Host::with_service(
        "listen = [\"0.0.0.0:8080\"]\ndrain = { polite = \"off\", deadline = \"30s\" }",
    )?;
    let target: SocketAddr = TARGET.parse()?;
    let first = Plain::new("gen1").listen("0.0.0.0:8080").command()?;
    host.upgrade("gen1", &first)?;
    let second = Kind::Plain.command(host.directory(), "gen2", 8080)?;
    host.deploy("gen2", &second)?;
    let held = Held::open(host.netns(), target, lengths())?;
    let before = Instant::now();
    let promote = host.start_hotlb(&["promote", "gen2"])?;
    let began = moved(&host, "gen2")?;
    let promote = promote.finish(DEADLINE + LIMIT)?.expect_success()?;
    let endings = held.finish()?;
    ensure!(endings.len() == CONNECTIONS as usize);
    let cut = cut_list(&host)?;
    let deadline = began + DEADLINE;

    let (whole, ended): (Vec<&Ending>, Vec<&Ending>) =
        endings.iter().partition(|ending| ending.result.is_ok());
    for ending in &whole {
        ensure!(
            ending.ended < deadline + TOLERANCE,
            "answered after the deadline: {ending:?}"
        );
        ensure!(!cut.contains_key(&ending.peer), "listed, but whole");
    }
    let mut off = Vec::new();
    for ending in &ended {
        ensure!(
            ending.due() + TOLERANCE > deadline,
            "cut although it was due in time: {ending:?}"
        );
        let late = ending
            .ended
            .saturating_duration_since(deadline)
            .as_secs_f64()
            - deadline
                .saturating_duration_since(ending.ended)
                .as_secs_f64();
        off.push(late * 1000.0);
        let age = cut
            .get(&ending.peer)
            .with_context(|| format!("not listed: {ending:?}"))?;
        let seen = ending.ended.duration_since(ending.asked).as_millis();
        ensure!(
            u128::from(*age).abs_diff(seen) < 500,
            "listed with an age of {age} ms: {ending:?}"
        );
    }
    let least = off.iter().copied().fold(f64::INFINITY, f64::min);
    let most = off.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    report::figure("drain report: complete of 500", whole.len());
    report::figure("drain report: cut and listed of 500", ended.len());
    report::figure(
        "drain report: cut after the deadline of 30 s, ms",
        format!("{least:.1} to {most:.1}"),
    );
    report::figure(
        "drain report: from the promote's start to the word seen moved, ms",
        began.duration_since(before).as_millis(),
    );
    ensure!(!whole.is_empty() && !ended.is_empty());
    ensure!(
        cut.len() == ended.len(),
        "{} listed, {} cut",
        cut.len(),
        ended.len()
    );
    let said = format!("{} connections cut", ended.len());
    ensure!(
        promote.stdout.contains(&said) || promote.stderr.contains(&said),
        "it does not say {said:?}\n{}",
        promote.describe()
    );
    let tolerance = TOLERANCE.as_secs_f64() * 1000.0;
    ensure!(
        least > -tolerance && most < tolerance,
        "cut {least:.1} to {most:.1} ms off the deadline"
    );
    Ok(())
}
