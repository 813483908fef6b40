//! Promise: a generation that is frozen after its drain answers again within milliseconds of a rollback, is thawed when
//! it has to take over, and is found again by the next agent.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{cgroups, host::Host, load::Plan, report, servers::Kind, wait};
use serde_json::Value;

const TARGET: &str = "127.0.0.1:8080";
const SERVICE: &str = "listen = [\"0.0.0.0:8080\"]\n\
     keep = { generations = 1, for = \"10m\", freeze = true }\n";
const LIMIT: Duration = Duration::from_secs(15);
const ROUNDS: usize = 50;
/// Far above what is aimed at: a machine that does other things too must not fail the test.
const TOO_SLOW: Duration = Duration::from_millis(500);

struct Scene {
    host: Host,
    target: SocketAddr,
}

impl Scene {
    /// `gen2` is active, `gen1` is frozen.
    fn new() -> Result<Self> {
        let scene = Self {
            host: Host::with_service(SERVICE)?,
            target: TARGET.parse()?,
        };
        for generation in ["gen1", "gen2"] {
            let server =
                Kind::Plain.command(scene.host.directory(), generation, scene.target.port())?;
            scene.host.upgrade(generation, &server)?;
        }
        scene.wait_frozen("gen1")?;
        Ok(scene)
    }

    fn wait_frozen(&self, generation: &str) -> Result<()> {
        wait::until_true(&format!("{generation} is frozen"), LIMIT, || {
            self.tier(generation).is_ok_and(|tier| tier == "hot")
                && self.is_frozen(generation).is_ok_and(|frozen| frozen)
        })
    }

    fn tier(&self, generation: &str) -> Result<String> {
        let run = self.host.ok(&["status", "--output", "json"])?;
        let status: Value = serde_json::from_str(&run.stdout)?;
        let generations = status.pointer("/services/0/generations");
        let generations = generations.and_then(Value::as_array).context("none")?;
        let found = generations
            .iter()
            .find(|g| g.get("name").and_then(Value::as_str) == Some(generation));
        let tier = found.and_then(|g| g.get("tier")?.as_str());
        Ok(tier.unwrap_or_default().to_owned())
    }

    /// What the kernel says.
    fn is_frozen(&self, generation: &str) -> Result<bool> {
        let pid = self.host.generation(generation)?.process()?;
        let events = std::fs::read_to_string(cgroups::of(pid)?.join("cgroup.events"))?;
        Ok(events.lines().any(|line| line == "frozen 1"))
    }
}

#[test]
fn a_rollback_to_a_frozen_generation_takes_milliseconds() -> Result<()> {
    let scene = Scene::new()?;
    let mut felt = Vec::new();
    let mut stored = Vec::new();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let rollback = scene.host.start_hotlb(&["rollback", "--output", "json"])?;
        while scene.host.ask(scene.target)? != "gen1" {
            ensure!(began.elapsed() < LIMIT, "gen1 does not answer");
        }
        felt.push(began.elapsed());
        let run = rollback.finish(LIMIT)?.expect_success()?;
        let done: Value = serde_json::from_str(&run.stdout)?;
        let steered = done.pointer("/steered_us").and_then(Value::as_u64);
        stored.push(Duration::from_micros(
            steered.with_context(|| run.stdout.clone())?,
        ));
        scene.host.promote("gen2")?;
        scene.wait_frozen("gen1")?;
    }
    felt.sort();
    stored.sort();
    let at = |all: &[Duration], share: usize| all.get((all.len() - 1) * share / 100).copied();
    report::remark(format!(
        "rollback to a frozen generation, {ROUNDS} rounds: from the command to the first good \
         answer p50 {:?} p99 {:?}; from the request to thaw and store, one flush of the journal \
         included, p50 {:?} p99 {:?}",
        at(&felt, 50).unwrap_or_default(),
        at(&felt, 99).unwrap_or_default(),
        at(&stored, 50).unwrap_or_default(),
        at(&stored, 99).unwrap_or_default(),
    ));
    let slow = at(&felt, 90).unwrap_or_default();
    ensure!(slow < TOO_SLOW, "{slow:?}");
    Ok(())
}

#[test]
fn a_frozen_fallback_is_thawed_when_the_active_one_dies() -> Result<()> {
    let scene = Scene::new()?;
    let load = scene.host.load(Plan::new(scene.target))?;
    load.wait_more(100, LIMIT)?;
    let pid = scene.host.generation("gen2")?.process()?;
    cgroups::kill(&cgroups::of(pid)?)?;
    scene.host.wait_state("gen1", &["active"])?;
    scene.host.expect_answers(scene.target, 50, "gen1")?;
    ensure!(!scene.is_frozen("gen1")?, "it is frozen still");
    load.stop()?;
    Ok(())
}

#[test]
fn a_frozen_generation_is_found_again_and_thawed() -> Result<()> {
    let mut scene = Scene::new()?;
    scene.host.kill_agent()?;
    scene.host.start_agent()?;
    ensure!(scene.tier("gen1")? == "hot", "{}", scene.tier("gen1")?);
    scene.host.ok(&["rollback"])?;
    scene.host.expect_answers(scene.target, 50, "gen1")?;
    scene.wait_frozen("gen2")?;
    scene.host.ok(&["stop", "gen2"])?;
    scene.host.wait_state("gen2", &["stopped"])?;
    Ok(())
}

#[test]
fn a_frozen_generation_is_ended_when_its_time_is_over() -> Result<()> {
    let host = Host::with_service(
        "listen = [\"0.0.0.0:8080\"]\nkeep = { for = \"2s\", freeze = true }\n",
    )?;
    let target: SocketAddr = TARGET.parse()?;
    for generation in ["gen1", "gen2"] {
        let server = Kind::Plain.command(host.directory(), generation, target.port())?;
        host.upgrade(generation, &server)?;
    }
    host.wait_state("gen1", &["stopped"])?;
    host.expect_answers(target, 20, "gen2")
}
