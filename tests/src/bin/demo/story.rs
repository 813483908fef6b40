//! The chapters. Each has an agent and a namespace of its own and prints what is going on.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result};
use hotlb_tests::{
    cgroups,
    host::Host,
    load::{Load, Plan},
    servers::{Kind, Nginx, nginx},
    waiting::Waiting,
};

use crate::tally::Tally;

const TARGET: &str = "127.0.0.1:8080";
const LIMIT: Duration = Duration::from_secs(30);
/// Answers between two moves of the traffic.
const BETWEEN: u64 = 2000;
const SERVICE: &str = "listen = [\"0.0.0.0:8080\"]";

/// No server yet: the client waits and is served by the first generation.
pub(crate) fn waiting_client(_tally: &mut Tally) -> Result<()> {
    println!("A client connects before any server runs, then a server is deployed and promoted.");
    let host = Host::with_service(SERVICE)?;
    let client = Waiting::open(host.netns(), target()?, 1)?;
    client.expect_silence()?;
    println!("  hotlb status\n{}", indent(&host.ok(&["status"])?.stdout));
    let server = Kind::Plain.command(host.directory(), "gen1", 8080)?;
    say(&host.deploy("gen1", &server)?.stdout);
    say(&host.promote("gen1")?.stdout);
    let answers = client.answers()?;
    let by = answers.first().context("the client was answered")?;
    println!("  the client that waited was answered by {}", by.generation);
    Ok(())
}

/// Stock nginx, upgraded and rolled back under load.
pub(crate) fn nginx(tally: &mut Tally) -> Result<()> {
    if nginx::binary().is_none() {
        println!("nginx is not installed: its chapter is left out. `cargo xtask setup` gets it.");
        return Ok(());
    }
    println!("Stock nginx, 32 new connections at a time: 10 upgrades, 3 rollbacks.");
    upgrades("nginx", tally, |host, generation| {
        Nginx::new(generation)
            .workers(2)
            .listen("0.0.0.0:8080")
            .command(host.directory())
    })
}

/// A server that knows nothing of `SO_REUSEPORT`.
pub(crate) fn plain_server(tally: &mut Tally) -> Result<()> {
    println!("A server that sets no SO_REUSEPORT, the same.");
    upgrades(
        "a server without SO_REUSEPORT",
        tally,
        |host, generation| Kind::Plain.command(host.directory(), generation, 8080),
    )
}

fn upgrades(
    name: &'static str,
    tally: &mut Tally,
    command: impl Fn(&Host, &str) -> Result<Vec<String>>,
) -> Result<()> {
    const UPGRADES: usize = 10;
    let host = Host::with_service(SERVICE)?;
    host.upgrade("gen0", &command(&host, "gen0")?)?;
    let load = Load::start(host.netns(), Plan::new(target()?))?;
    let mut rollbacks = 0;
    for number in 1..=UPGRADES {
        load.wait_more(BETWEEN, LIMIT)?;
        let generation = format!("gen{number}");
        host.deploy(&generation, &command(&host, &generation)?)?;
        promote(&host, &generation, tally)?;
        if number % 3 == 0 {
            load.wait_more(BETWEEN, LIMIT)?;
            say(&host.ok(&["rollback"])?.stdout);
            rollbacks += 1;
        }
    }
    load.wait_more(BETWEEN, LIMIT)?;
    println!("  hotlb status\n{}", indent(&host.ok(&["status"])?.stdout));
    tally.add(name, &load.stop()?, UPGRADES, rollbacks);
    Ok(())
}

/// The active generation is killed while connections wait in its queue.
pub(crate) fn crash(tally: &mut Tally) -> Result<()> {
    println!("The active generation hangs, then is killed with connections in its accept queue.");
    let host = Host::with_service(SERVICE)?;
    for generation in ["gen1", "gen2"] {
        let server = Kind::Plain.command(host.directory(), generation, 8080)?;
        host.deploy(generation, &server)?;
    }
    host.promote("gen1")?;
    let first = host.generation("gen1")?.process()?;
    nix::sys::signal::kill(first, nix::sys::signal::Signal::SIGSTOP)?;
    let queued = Waiting::open(host.netns(), target()?, 20)?;
    queued.expect_silence()?;
    cgroups::kill(&cgroups::of(first)?)?;
    let answers = queued.answers()?;
    let by_second = answers
        .iter()
        .filter(|answer| answer.generation == "gen2")
        .count();
    println!("  of 20 connections in the queue of gen1, gen2 answered {by_second}");
    host.wait_state("gen2", &["active"])?;
    println!("  hotlb status\n{}", indent(&host.ok(&["status"])?.stdout));
    let load = Load::start(host.netns(), Plan::new(target()?))?;
    load.wait_more(BETWEEN, LIMIT)?;
    tally.add(
        "after the crash, on the other generation",
        &load.stop()?,
        0,
        0,
    );
    Ok(())
}

/// The agent is killed under load, started again, and goes on.
pub(crate) fn agent_killed(tally: &mut Tally) -> Result<()> {
    println!("The agent is killed with -9 under load, started again, and promotes.");
    let mut host = Host::with_service(SERVICE)?;
    let server = |host: &Host, name: &str| Kind::Plain.command(host.directory(), name, 8080);
    host.upgrade("gen1", &server(&host, "gen1")?)?;
    let load = Load::start(host.netns(), Plan::new(target()?))?;
    load.wait_more(BETWEEN, LIMIT)?;
    host.kill_agent()?;
    load.wait_more(BETWEEN, LIMIT)?;
    println!(
        "  without an agent: {} requests answered so far",
        load.so_far().ok
    );
    host.start_agent()?;
    host.deploy("gen2", &server(&host, "gen2")?)?;
    promote(&host, "gen2", tally)?;
    load.wait_more(BETWEEN, LIMIT)?;
    tally.add("the agent killed and started again", &load.stop()?, 1, 0);
    Ok(())
}

/// Promotes and notes how long it took to the store.
fn promote(host: &Host, generation: &str, tally: &mut Tally) -> Result<()> {
    let run = host.ok(&["promote", generation, "--output", "json"])?;
    let done: serde_json::Value = serde_json::from_str(&run.stdout)?;
    let text = |key: &str| {
        done.get(key)
            .and_then(|value| value.as_str())
            .unwrap_or_default()
    };
    say(text("message"));
    if let Some(micros) = done.get("steered_us").and_then(serde_json::Value::as_u64) {
        tally.steered(micros);
    }
    Ok(())
}

fn target() -> Result<SocketAddr> {
    Ok(TARGET.parse()?)
}

fn say(text: &str) {
    println!("  {}", text.trim_end());
}

fn indent(text: &str) -> String {
    text.lines()
        .map(|line| format!("    {line}\n"))
        .collect::<Vec<_>>()
        .concat()
}
