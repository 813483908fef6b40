//! What grows with the number of services, listeners and generations, and what does not.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hotlb::datapath::yardstick::{self, Statistics};
use hotlb_tests::{
    fleet::{Finished, Fleet, PROMOTED_AT_ONCE},
    footprint::Footprint,
    host::Host,
    load::{Load, Plan},
    report,
    servers::Plain,
    wait,
};
use procfs::process::Process;

use crate::{
    Scale,
    sample::{Sample, against_aim},
};

/// New connections a round.
const EACH: u64 = 4_000;
const LIMIT: Duration = Duration::from_mins(5);
/// How long an agent that has nothing to do is watched.
const IDLE: Duration = Duration::from_secs(5);
/// It is watched again until it does no less than the time before, and so often at most.
const LOOKS: usize = 6;
const START_AIM: Duration = Duration::from_secs(2);

pub(crate) fn measure(scale: Scale) -> Result<()> {
    let services: &[u16] = if scale.quick {
        &[1, 10, 50]
    } else {
        &[1, 10, 100, 500]
    };
    let mut rows = Vec::new();
    for &count in services {
        rows.push(with_services(count)?);
    }
    report::table(
        &[
            "services",
            "first start, ms",
            "start again, ms",
            "agent RSS, MiB",
            "its own memory, KiB a service",
            "kernel maps, KiB a service",
            "keeper, KiB",
            "agent idle, % of a CPU",
            "promote of all at once (100 at most), ms p50 / max",
            "steer, ns",
            "all programs, ns a connection",
            "connections/s",
        ],
        &rows,
    );
    let listeners: &[usize] = if scale.quick {
        &[1, 100]
    } else {
        &[1, 10, 100, 1_000]
    };
    let mut rows = Vec::new();
    for &count in listeners {
        rows.push(with_listeners(count)?);
    }
    report::table(
        &PER_CONNECTION.map(|title| title.replace('#', "listeners")),
        &rows,
    );
    let kept: &[usize] = if scale.quick { &[1, 8] } else { &[1, 16, 65] };
    let mut rows = Vec::new();
    for &count in kept {
        rows.push(with_generations(count)?);
    }
    report::table(
        &PER_CONNECTION.map(|title| title.replace('#', "generations")),
        &rows,
    );
    Ok(())
}

const PER_CONNECTION: [&str; 5] = [
    "#",
    "upgrade, ms",
    "steer, ns",
    "all programs, ns a connection",
    "connections/s",
];

fn with_services(count: u16) -> Result<Vec<String>> {
    let mut host = Host::without_agent()?;
    let fleet = Fleet::configure(&host, count, "")?;
    let first = host.start_agent_timed(LIMIT)?;
    fleet.deploy(&host, count, "gen1")?;
    fleet.promote(&host, count, "gen1")?;
    let footprint = Footprint::of(&mut host)?;
    let private = private_memory(host.agent()?.pid())?;
    let maps = yardstick::map_memory(host.bpffs(), "s0")?;
    let keeper = host.keeper()?.context("a keeper runs")?;
    let keeper = private_memory(keeper)?;
    let idle = idle(&mut host)?;
    let at_once = count.min(PROMOTED_AT_ONCE);
    fleet.deploy(&host, at_once, "gen2")?;
    let promotes = fleet.promote(&host, at_once, "gen2")?;
    let cost = Cost::measure(&host, "s0", &Fleet::address_of(0).to_string())?;
    host.kill_agent()?;
    let again = host.start_agent_timed(LIMIT)?;
    against_aim(
        &format!("{count} services: start of an agent that finds them all, ms"),
        &again.as_millis().to_string(),
        &format!("under {} ms", START_AIM.as_millis()),
        again < START_AIM,
    );
    let promotes: Sample = promotes.iter().map(millis).collect();
    Ok(vec![
        count.to_string(),
        first.as_millis().to_string(),
        again.as_millis().to_string(),
        (footprint.resident / 1024).to_string(),
        (private / 1024 / u64::from(count)).to_string(),
        (maps.values().sum::<u64>() / 1024).to_string(),
        (keeper / 1024).to_string(),
        format!("{idle:.1}"),
        format!("{:.0} / {:.0}", promotes.median(), promotes.quantile(1.0)),
        format!("{:.0}", cost.steer),
        format!("{:.0}", cost.all),
        format!("{:.0}", cost.rate),
    ])
}

fn with_listeners(count: usize) -> Result<Vec<String>> {
    const LISTEN: &str = "127.0.0.1:8080";
    let host = Host::with_service(&format!("listen = [\"{LISTEN}\"]"))?;
    let server = |name: &str| {
        let listening = (0..count).fold(Plain::new(name), |plain, _| plain.listen(LISTEN));
        listening.command()
    };
    host.upgrade("gen1", &server("gen1")?)?;
    let began = Instant::now();
    host.upgrade("gen2", &server("gen2")?)?;
    let upgrade = began.elapsed();
    let cost = Cost::measure(&host, "web", LISTEN)?;
    Ok(cost.row(count, upgrade))
}

fn with_generations(count: usize) -> Result<Vec<String>> {
    const LISTEN: &str = "127.0.0.1:8080";
    let host = Host::with_service(&format!(
        "listen = [\"{LISTEN}\"]\nkeep = {{ generations = 64, for = \"1h\" }}"
    ))?;
    let mut upgrade = Duration::ZERO;
    for number in 1..=count {
        let name = format!("gen{number}");
        let began = Instant::now();
        host.upgrade(&name, &Plain::new(&name).listen(LISTEN).command()?)?;
        upgrade = began.elapsed();
    }
    let cost = Cost::measure(&host, "web", LISTEN)?;
    Ok(cost.row(count, upgrade))
}

/// What a new connection costs.
struct Cost {
    /// Nanoseconds of `steer` a run.
    steer: f64,
    /// Nanoseconds of all programs on the host.
    all: f64,
    /// Connections per second.
    rate: f64,
}

impl Cost {
    fn measure(host: &Host, service: &str, address: &str) -> Result<Self> {
        let target = address.parse()?;
        let statistics = Statistics::on()?;
        let (steer, all) = (
            yardstick::steer(host.bpffs(), service, target)?,
            yardstick::all_programs()?,
        );
        connect(host, address)?;
        let all = yardstick::all_programs()?
            .nanoseconds
            .saturating_sub(all.nanoseconds);
        let steer = yardstick::steer(host.bpffs(), service, target)?.each_since(steer);
        drop(statistics);
        let rates = (0..3)
            .map(|_| connect(host, address))
            .collect::<Result<Sample>>()?;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let all = all as f64 / EACH as f64;
        Ok(Self {
            steer: steer.context("no run")?,
            all,
            rate: rates.median(),
        })
    }

    fn row(&self, count: usize, upgrade: Duration) -> Vec<String> {
        vec![
            count.to_string(),
            upgrade.as_millis().to_string(),
            format!("{:.0}", self.steer),
            format!("{:.0}", self.all),
            format!("{:.0}", self.rate),
        ]
    }
}

/// New connections per second.
fn connect(host: &Host, target: &str) -> Result<f64> {
    let load = Load::start(host.netns(), Plan::new(target.parse()?).max_requests(EACH))?;
    load.wait_for("the round", LIMIT, |outcome| outcome.requests() >= EACH)?;
    let outcome = load.stop()?;
    outcome.expect_none_failed()?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let requests = outcome.requests() as f64;
    Ok(requests / outcome.took.as_secs_f64())
}

fn millis(finished: &Finished) -> f64 {
    finished.took.as_secs_f64() * 1000.0
}

/// Bytes of a process that it shares with nobody.
fn private_memory(pid: nix::unistd::Pid) -> Result<u64> {
    let rollup = Process::new(pid.as_raw())?.smaps_rollup()?;
    let all = rollup.memory_map_rollup.into_iter();
    let private = |key: &str, map: &procfs::process::MemoryMap| {
        map.extension.map.get(key).copied().unwrap_or_default()
    };
    Ok(all
        .map(|map| private("Private_Clean", &map) + private("Private_Dirty", &map))
        .sum())
}

/// CPU time of the agent while nothing is asked of it, in percent of one CPU.
fn idle(host: &mut Host) -> Result<f64> {
    let mut least = f64::INFINITY;
    // What it was asked a moment ago has an end of its own.
    for _ in 0..LOOKS {
        let now = watched(host)?;
        if now >= least {
            break;
        }
        least = now;
    }
    Ok(least)
}

fn watched(host: &mut Host) -> Result<f64> {
    let process = Process::new(host.agent()?.pid().as_raw())?;
    let used = || -> Result<u64> {
        let stat = process.stat()?;
        Ok(stat.utime + stat.stime)
    };
    let (began, before) = (Instant::now(), used()?);
    wait::until_true("time passes", IDLE * 2, || began.elapsed() >= IDLE)?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let seconds = (used()? - before) as f64 / procfs::ticks_per_second() as f64;
    Ok(seconds * 100.0 / began.elapsed().as_secs_f64())
}
