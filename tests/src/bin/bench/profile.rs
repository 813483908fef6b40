//! What profiles cost, beside `perf record` on the same server.

use std::{
    collections::HashMap,
    fs,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{
    cgroups, command,
    host::Host,
    load::{Load, Plan},
    locate,
    profile::{Helper, Profile},
    report,
    servers::{Kind, Nginx},
    wait,
    wrk::{self, Wrk},
};
use serde_json::{Value, json};

use crate::{
    Scale,
    sample::{Sample, against_aim},
};

const LISTEN: &str = "0.0.0.0:8080";
const TARGET: &str = "127.0.0.1:8080";
/// Requests a turn: some five seconds. A helper's start takes 50 ms of CPU, a tenth of a turn of 20,000.
const EACH: u64 = 500_000;
const ROUNDS: usize = 12;
/// Longer than a turn takes, in milliseconds.
const TURN: u32 = 60_000;
/// Rounds beside perf, each with five seconds of either.
const BESIDE: usize = 5;
const SECONDS: &str = "5";
const LIMIT: Duration = Duration::from_mins(3);
const AIM: f64 = 0.99;
/// Percent of a CPU.
const CPU_AIM: f64 = 1.0;
const MEMORY_AIM: u64 = 150;
/// Functions that are shown side by side.
const TOP: usize = 10;

pub(crate) fn measure(scale: Scale) -> Result<()> {
    let missing = Kind::Nginx.missing().or(wrk::missing());
    if let Some(reason) = missing {
        return report::skip("bench profile", reason);
    }
    let host = Host::with_service(&format!("listen = [\"{LISTEN}\"]"))?;
    let server = Nginx::new("gen1").listen(&format!("{LISTEN} reuseport"));
    host.upgrade("gen1", &server.command(host.directory())?)?;
    throughput(&host, scale)?;
    if locate::program("perf").is_none() {
        return report::skip("bench profile, beside perf", "perf is not installed");
    }
    beside_perf(&host, scale)
}

/// What is printed of a way to sample, and its plan; the first one is what an operator gets.
fn ways() -> [(&'static str, Value); 3] {
    [
        (
            "by a program at the events of the CPUs",
            json!({ "duration_ms": TURN, "scope": "filtered" }),
        ),
        (
            "by events of the cgroup",
            json!({ "duration_ms": TURN, "scope": "cgroup" }),
        ),
        (
            "counted in the kernel (--unwind fp)",
            json!({ "duration_ms": TURN, "unwind": "fp" }),
        ),
    ]
}

/// Turns with sampling in each way and without; who goes first changes from round to round.
fn throughput(host: &Host, scale: Scale) -> Result<()> {
    let ways = ways();
    let mut ratios = ways.each_ref().map(|_| Vec::new());
    for round in 0..scale.rounds(ROUNDS) {
        let mut without = 0.0;
        let mut with = ways.each_ref().map(|_| 0.0);
        let mut turns: Vec<_> = ways.iter().zip(&mut with).map(Some).collect();
        turns.push(None);
        let first = round % turns.len();
        turns.rotate_left(first);
        for turn in turns {
            match turn {
                None => without = rate(host)?,
                Some(((_, way), with)) => *with = while_sampled(host, way)?,
            }
        }
        for (ratios, with) in ratios.iter_mut().zip(with) {
            ratios.push(with / without);
        }
    }
    for ((name, _), ratios) in ways.iter().zip(ratios) {
        let ratio: Sample = ratios.into_iter().collect();
        against_aim(
            &format!(
                "requests on kept connections while sampled at 99 Hz {name}: ratio to not sampled, \
                 round by round"
            ),
            &ratio.describe(3),
            &format!("at least {AIM}"),
            ratio.median() >= AIM,
        );
    }
    Ok(())
}

fn while_sampled(host: &Host, way: &Value) -> Result<f64> {
    let helper = Helper::start(host, way)?;
    wait::until_true("it is sampled", LIMIT, || {
        let maps = fs::read_to_string(format!("/proc/{}/maps", helper.id()));
        maps.is_ok_and(|maps| maps.contains("[perf_event]"))
    })?;
    rate(host)
}

fn rate(host: &Host) -> Result<f64> {
    let target: SocketAddr = TARGET.parse()?;
    let plan = Plan::new(target).keep_alive().max_requests(EACH);
    let load = Load::start(host.netns(), plan)?;
    load.wait_for("the turn", LIMIT, |outcome| outcome.requests() >= EACH)?;
    let outcome = load.stop()?;
    outcome.expect_none_failed()?;
    Ok(per_second(outcome.requests(), outcome.took))
}

#[expect(clippy::cast_precision_loss, reason = "a count far below 2^52")]
fn per_second(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

/// One profiler's turns.
#[derive(Default)]
struct Turns {
    rates: Vec<f64>,
    /// CPU of sampling, and of what comes afterwards until functions have names, in seconds.
    sampling: Vec<f64>,
    afterwards: Vec<f64>,
}

impl Turns {
    fn report(self, name: &str) {
        let describe =
            |values: Vec<f64>, digits| values.into_iter().collect::<Sample>().describe(digits);
        report::figure(
            &format!("{name}, requests per second"),
            describe(self.rates, 0),
        );
        if !self.sampling.is_empty() {
            let title = format!("{name}, CPU seconds of {SECONDS} s of sampling");
            report::figure(&title, describe(self.sampling, 3));
            let title = format!("{name}, CPU seconds until functions have names");
            report::figure(&title, describe(self.afterwards, 3));
        }
    }
}

fn beside_perf(host: &Host, scale: Scale) -> Result<()> {
    let (mut none, mut own, mut perf) = (Turns::default(), Turns::default(), Turns::default());
    let mut last = None;
    let data = host.directory().join("perf.data").display().to_string();
    let text = host.directory().join("perf.txt").display().to_string();
    let report = format!(
        "perf report -i {data} --stdio --no-children --no-inline -g none --sort symbol >{text} 2>&1"
    );
    let pids = cgroups::pids(&cgroups::of(host.generation("gen1")?.process()?)?)?;
    let record = format!(
        "perf record -e cpu-clock -F 99 -g --call-graph dwarf -p {} -o {data} -- sleep {SECONDS} \
         >{text} 2>&1",
        pids.join(",")
    );
    for _ in 0..scale.rounds(BESIDE) {
        let (rate, _) = under_load(host, || timed(host, &format!("sleep {SECONDS}")))?;
        none.rates.push(rate);
        let time = format!("{SECONDS}s");
        let (rate, profile) = under_load(host, || Profile::take(host, &["gen1", "--for", &time]))?;
        own.rates.push(rate);
        own.sampling.push(seconds(profile.own_cpu_ms));
        own.afterwards.push(seconds(profile.names_cpu_ms));
        let (rate, used) = under_load(host, || timed(host, &record))?;
        perf.rates.push(rate);
        perf.sampling.push(used);
        perf.afterwards.push(timed(host, &report)?);
        last = Some((profile, fs::read_to_string(&text)?));
    }
    none.report("nginx without a profiler");
    own.report("nginx and hotlb profile");
    perf.report("nginx and perf record");
    let (profile, report) = last.context("no round")?;
    costs(&profile)?;
    side_by_side(&profile, &report)
}

/// Does `work` while wrk runs; requests per second of that time.
fn under_load<T>(host: &Host, work: impl FnOnce() -> Result<T>) -> Result<(f64, T)> {
    let began = Instant::now();
    let load = Wrk::start(host.netns(), TARGET.parse()?, 16)?;
    let done = work();
    let outcome = load.stop()?;
    Ok((per_second(outcome.requests, began.elapsed()), done?))
}

/// Runs a line of shell; CPU time of what it ran, in seconds.
fn timed(host: &Host, line: &str) -> Result<f64> {
    let script = format!("{line}; code=$?; times; exit $code");
    let run = command::run(host.command("sh").args(["-c", &script]), LIMIT)?.expect_success()?;
    let children = run.stdout.lines().nth(1).with_context(|| run.describe())?;
    let seconds = |text: &str| {
        let (minutes, seconds) = text.trim_end_matches('s').split_once('m')?;
        Some(minutes.parse::<f64>().ok()? * 60.0 + seconds.parse::<f64>().ok()?)
    };
    let parts: Option<Vec<f64>> = children.split_whitespace().map(seconds).collect();
    Ok(parts.with_context(|| run.describe())?.iter().sum())
}

fn seconds(ms: u64) -> f64 {
    Duration::from_millis(ms).as_secs_f64()
}

fn costs(profile: &Profile) -> Result<()> {
    let percent = 100.0 * seconds(profile.own_cpu_ms) / seconds(profile.took_ms);
    against_aim(
        "CPU of the helper at 99 Hz, percent of a core",
        &format!("{percent:.2}"),
        &format!("at most {CPU_AIM}"),
        percent <= CPU_AIM,
    );
    let memory = profile.own_memory_bytes >> 20;
    against_aim(
        "memory of the helper, MB",
        &memory.to_string(),
        &format!("below {MEMORY_AIM}"),
        memory < MEMORY_AIM,
    );
    let samples = profile.only()?.samples;
    report::figure("samples of the last profile", samples);
    Ok(())
}

/// The functions with most samples in themselves, beside what perf says of them.
fn side_by_side(profile: &Profile, report: &str) -> Result<()> {
    let perf = shares(report);
    ensure!(!perf.is_empty(), "perf report said:\n{report}");
    let sampled = profile.only()?;
    let mut own: HashMap<&str, u64> = HashMap::new();
    for stack in &sampled.stacks {
        if let Some(leaf) = profile.functions(stack).last() {
            *own.entry(leaf.name.as_str()).or_default() += stack.count;
        }
    }
    let mut own: Vec<_> = own.into_iter().collect();
    own.sort_by_key(|&(name, count)| (std::cmp::Reverse(count), name));
    let mut agree = 0;
    for (name, count) in own.into_iter().take(TOP) {
        let percent = 100.0 * per_second(count, Duration::from_secs(sampled.samples.max(1)));
        let other = perf.get(name).copied().unwrap_or_default();
        let alike = other > percent / 10.0 && other < percent * 10.0;
        agree += usize::from(alike);
        let verdict = if alike { "" } else { ", not alike" };
        report::figure(
            &format!("top ten: {name}"),
            format!("{percent:.1} %, perf {other:.1} %{verdict}"),
        );
    }
    against_aim(
        "of the ten functions with most samples, alike in order of magnitude",
        &agree.to_string(),
        &TOP.to_string(),
        agree == TOP,
    );
    Ok(())
}

/// Percent by function, from lines such as `    12.34%  [k] tcp_sendmsg`.
fn shares(report: &str) -> HashMap<&str, f64> {
    let share = |line| {
        let (percent, rest) = str::split_once(line, '%')?;
        let percent: f64 = percent.trim().parse().ok()?;
        let (_, name) = rest.split_once("] ")?;
        // Behind it may be columns of processors that count instructions.
        Some((name.split("  ").next()?.trim(), percent))
    };
    report.lines().filter_map(share).collect()
}
