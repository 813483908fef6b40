//! Promise: a real Prometheus scrapes the agent, and what it answers is what the clients saw, to the connection, over
//! promotes and a killed agent; scrapes are quick, however many generations there are.

#![expect(
    clippy::float_cmp,
    reason = "counts are whole numbers, and equal or wrong"
)]

use std::{fs, net::SocketAddr, time::Duration};

use anyhow::{Result, ensure};
use hotlb_tests::{
    exposition::{Exposition, OPENMETRICS, TEXT},
    host::Host,
    load::{Load, Plan},
    prometheus::{self, Prometheus, promtool},
    report,
    servers::Kind,
    wait,
};

const TARGET: &str = "127.0.0.1:8080";
const LIMIT: Duration = Duration::from_secs(30);
/// Connections of the client in the long test; all of them with `HOTLB_FULL`.
const CONNECTIONS: u64 = 20_000;
const ALL_CONNECTIONS: u64 = 100_000;
const PROMOTES: u64 = 10;
/// Generations in the test of the scrape's time: as many as can live at once, and one that ended.
const LIVING: usize = 63;
/// What a scrape may take.
const QUICK: Duration = Duration::from_millis(10);
/// The same for a build that is only for tests.
const UNOPTIMISED: Duration = Duration::from_millis(60);

const OPENED: &str = "hotlb_service_connections_opened_total";
const PROBES: &[&str] = &["exit=\"ticket\"", "migrating=\"false\""];

fn host(keys: &str) -> Result<(Host, SocketAddr)> {
    let host = Host::with_config(&format!(
        "[agent]\n{keys}\n[service.web]\nlisten = [\"0.0.0.0:8080\"]\nkeep = \"0s\"\n\
         drain = {{ signal_after = \"0s\" }}\n"
    ))?;
    Ok((host, TARGET.parse()?))
}

fn upgrade(host: &Host, generation: &str) -> Result<()> {
    let server = Kind::Plain.command(host.directory(), generation, 8080)?;
    host.upgrade(generation, &server)
}

/// Clients' connections by the totals of the service.
fn clients(scrape: &Exposition) -> Result<f64> {
    let probes = scrape.sum("hotlb_steering_exits_total", PROBES)?;
    Ok(scrape.value(OPENED, &[])? - probes)
}

/// Fails if a total of the service is less than it was.
fn expect_grown(before: &Exposition, after: &Exposition) -> Result<()> {
    for what in ["opened", "closed", "aborted"] {
        let name = format!("hotlb_service_connections_{what}_total");
        let (before, after) = (before.value(&name, &[])?, after.value(&name, &[])?);
        ensure!(after >= before, "{name} fell from {before} to {after}");
    }
    for name in [
        "hotlb_promotes_total",
        "hotlb_rollouts_total",
        "hotlb_promote_duration_seconds_count",
        "hotlb_service_queue_wait_seconds_count",
        "hotlb_service_service_time_seconds_count",
        "hotlb_service_service_time_seconds_sum",
        "hotlb_service_connection_lifetime_seconds_count",
    ] {
        let (before, after) = (before.sum(name, &[])?, after.sum(name, &[])?);
        ensure!(after >= before, "{name} fell from {before} to {after}");
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn real(count: u64) -> f64 {
    count as f64
}

#[test]
fn prometheus_counts_what_the_clients_count() -> Result<()> {
    if let Some(reason) = prometheus::missing() {
        return report::skip("prometheus: the counts", reason);
    }
    let (mut host, target) = host("")?;
    upgrade(&host, "gen0")?;
    let prometheus = Prometheus::start(&host)?;
    let full = std::env::var_os("HOTLB_FULL").is_some();
    let count = if full { ALL_CONNECTIONS } else { CONNECTIONS };
    let load = host.load(Plan::new(target).workers(16).max_requests(count))?;
    let mut last = Exposition::of(&host, OPENMETRICS)?;
    for promote in 1..=PROMOTES {
        load.wait_for("its share", LIMIT * 4, |outcome| {
            outcome.requests() >= count * promote / (PROMOTES + 2)
        })?;
        if promote == PROMOTES / 2 {
            host.kill_agent()?;
            host.start_agent()?;
        }
        upgrade(&host, &format!("gen{promote}"))?;
        let scrape = Exposition::of(&host, OPENMETRICS)?;
        expect_grown(&last, &scrape)?;
        last = scrape;
    }
    finish(&host, &prometheus, load, count)
}

/// The sums are right in the agent's text, and soon in Prometheus.
fn finish(host: &Host, prometheus: &Prometheus, load: Load, count: u64) -> Result<()> {
    load.wait_for("all answers", LIMIT * 4, |outcome| {
        outcome.requests() == count
    })?;
    let outcome = load.stop()?;
    outcome.expect_none_failed()?;
    let scrape = Exposition::of(host, OPENMETRICS)?;
    let probes = scrape.sum("hotlb_steering_exits_total", PROBES)?;
    let opened = scrape.sum("hotlb_connections_opened_total", &[])?;
    let by_generations = opened - probes;
    report::figure("connections of the clients", outcome.requests());
    report::figure("connections, summed over generations", by_generations);
    report::figure("their difference", by_generations - real(count));
    ensure!(
        by_generations == real(count),
        "{probes} probes\n{}",
        scrape.text
    );
    ensure!(clients(&scrape)? == real(count), "{}", scrape.text);
    let promotes = scrape.value("hotlb_promotes_total", &[])?;
    ensure!(promotes == real(PROMOTES + 1), "{promotes} promotes");
    let query = "sum(hotlb_connections_opened_total) \
                 - sum(hotlb_steering_exits_total{exit=\"ticket\",migrating=\"false\"})";
    prometheus.wait_value(host, query, real(count))?;
    let rates = "sum by (generation) (rate(hotlb_connections_opened_total[2m])) > 0";
    let rates = prometheus.query(host, rates)?;
    // Of those that Prometheus happened to see twice while they had clients.
    ensure!(!rates.is_empty(), "no generation has a rate");
    report::figure("generations with a rate in Prometheus", rates.len());
    let resets = "sum(resets(hotlb_service_connections_opened_total[10m])) + \
                  sum(resets(hotlb_promotes_total[10m]))";
    let resets = prometheus.query(host, resets)?;
    ensure!(resets == [0.0], "{resets:?} resets");
    let alarms = prometheus.query(host, "ALERTS{alertname=\"HotlbUnselected\"}")?;
    ensure!(alarms.is_empty(), "{alarms:?}");
    Ok(())
}

#[test]
fn series_of_ended_generations_expire_and_totals_stay() -> Result<()> {
    let (mut host, target) = host("metrics_expire = \"0s\"")?;
    upgrade(&host, "gen0")?;
    host.ask_many(target, 100)?;
    let mut last = Exposition::of(&host, OPENMETRICS)?;
    ensure!(clients(&last)? == 100.0, "{}", last.text);
    // More than are remembered.
    for number in 1..=18 {
        upgrade(&host, &format!("gen{number}"))?;
        host.ask_many(target, 5)?;
        if number % 6 == 0 {
            host.kill_agent()?;
            host.start_agent()?;
        }
        let scrape = Exposition::of(&host, OPENMETRICS)?;
        expect_grown(&last, &scrape)?;
        last = scrape;
    }
    ensure!(clients(&last)? == 190.0, "{}", last.text);
    let shows = |generation: &str, limit: Duration| {
        let label = format!("generation=\"{generation}\"");
        wait::until_true("its series are gone", limit, || {
            Exposition::of(&host, OPENMETRICS).is_ok_and(|scrape| !scrape.text.contains(&label))
        })
    };
    for generation in ["gen0", "gen1", "gen10", "gen16"] {
        shows(generation, LIMIT)?;
    }
    let scrape = Exposition::of(&host, OPENMETRICS)?;
    ensure!(
        scrape.text.contains("generation=\"gen18\""),
        "{}",
        scrape.text
    );
    host.ok(&["agent", "upgrade"])?;
    let upgraded = Exposition::of(&host, OPENMETRICS)?;
    expect_grown(&scrape, &upgraded)?;
    ensure!(clients(&upgraded)? == 190.0, "{}", upgraded.text);
    let lifetimes = upgraded.value("hotlb_service_connection_lifetime_seconds_count", &[])?;
    let closed = upgraded.value("hotlb_service_connections_closed_total", &[])?;
    ensure!(
        lifetimes == closed && closed >= 190.0,
        "{lifetimes} lifetimes, {closed} closed\n{}",
        upgraded.text
    );
    Ok(())
}

#[test]
fn promtool_has_nothing_to_say() -> Result<()> {
    if let Some(reason) = prometheus::missing() {
        return report::skip("prometheus: promtool", reason);
    }
    let (host, target) = host("")?;
    upgrade(&host, "gen1")?;
    upgrade(&host, "gen2")?;
    host.ask_many(target, 10)?;
    let scrape = Exposition::of(&host, TEXT)?;
    ensure!(
        scrape
            .text
            .contains("# TYPE hotlb_promotes_total counter\n"),
        "{}",
        scrape.text
    );
    ensure!(!scrape.text.contains("# EOF"), "{}", scrape.text);
    let file = host.directory().join("metrics.txt");
    fs::write(&file, &scrape.text)?;
    let mut check = host.command("sh");
    check.args(["-c", "promtool check metrics < metrics.txt"]);
    let check = hotlb_tests::command::run(&mut check, LIMIT)?.expect_success()?;
    ensure!(
        check.stdout.is_empty() && check.stderr.is_empty(),
        "{}",
        check.describe()
    );
    let docs = prometheus::docs();
    for (what, file) in [("rules", "alerts.yml"), ("config", "prometheus.yml")] {
        let file = docs.join(file);
        promtool(&host, &["check", what, &file.to_string_lossy()])?.expect_success()?;
    }
    Ok(())
}

#[test]
fn what_a_generation_uses_is_there_or_says_why_not() -> Result<()> {
    let (host, target) = host("")?;
    upgrade(&host, "gen1")?;
    host.ask_many(target, 200)?;
    let scrape = Exposition::of(&host, OPENMETRICS)?;
    let generation = "generation=\"gen1\"";
    let cpu = scrape.sum("hotlb_generation_cpu_seconds_total", &[generation])?;
    ensure!(cpu > 0.0, "{}", scrape.text);
    let memory = scrape.value("hotlb_generation_memory_bytes", &[generation])?;
    ensure!(memory > 500_000.0 && memory < 1e9, "{memory}");
    ensure!(
        scrape.value("hotlb_generation_processes", &[generation])? == 1.0,
        "{}",
        scrape.text
    );
    ensure!(
        scrape.value("hotlb_generation_frozen", &[generation])? == 0.0,
        "{}",
        scrape.text
    );
    let metrics = [
        ("hotlb_generation_memory_peak_bytes", ""),
        ("hotlb_generation_pressure_seconds", "cpu"),
        ("hotlb_generation_pressure_seconds", "memory"),
        ("hotlb_generation_pressure_seconds", "io"),
    ];
    for (metric, resource) in metrics {
        let resource = format!("resource=\"{resource}\"");
        let of = |name: &str, labels: &[&str]| {
            Ok::<_, anyhow::Error>(!scrape.values(name, labels)?.is_empty())
        };
        let there =
            of(metric, &[generation])? || of(&format!("{metric}_total"), &[generation, &resource])?;
        let named = format!("metric=\"{metric}\"");
        let why = of("hotlb_metric_unavailable", &[generation, &named, &resource])?;
        ensure!(there != why, "{metric} {resource}\n{}", scrape.text);
    }
    ensure!(
        scrape.value("process_open_fds", &[])? > 5.0,
        "{}",
        scrape.text
    );
    let lines = scrape
        .text
        .lines()
        .filter(|line| line.starts_with("hotlb_metric_unavailable"));
    for line in lines {
        report::figure("not available here", line);
    }
    Ok(())
}

#[test]
fn rollouts_and_hooks_are_counted() -> Result<()> {
    let (host, _) = host("")?;
    upgrade(&host, "gen1")?;
    let server = Kind::Plain.command(host.directory(), "gen2", 8080)?;
    host.deploy("gen2", &server)?;
    host.hotlb(&["promote", "gen2", "--hook", "validate=false"])?
        .expect_code(1)?;
    let scrape = Exposition::of(&host, OPENMETRICS)?;
    let count = |labels: &[&str]| scrape.value("hotlb_rollouts_total", labels);
    ensure!(
        count(&["kind=\"promote\"", "outcome=\"done\""])? == 1.0,
        "{}",
        scrape.text
    );
    ensure!(
        count(&["kind=\"promote\"", "outcome=\"rolled_back\""])? == 1.0,
        "{}",
        scrape.text
    );
    ensure!(
        scrape.value("hotlb_last_rollout_success", &[])? == 0.0,
        "{}",
        scrape.text
    );
    let failed = ["phase=\"validate\"", "outcome=\"failed\""];
    ensure!(
        scrape.value("hotlb_hooks_total", &failed)? == 1.0,
        "{}",
        scrape.text
    );
    ensure!(
        scrape.value("hotlb_promote_duration_seconds_count", &[])? == 1.0,
        "{}",
        scrape.text
    );
    ensure!(
        scrape.value("hotlb_promote_duration_seconds_bucket", &["le=\"+Inf\""])? == 1.0,
        "{}",
        scrape.text
    );
    ensure!(
        scrape.sum("hotlb_rollout_phase", &[])? == 0.0,
        "{}",
        scrape.text
    );
    Ok(())
}

/// Whether the binary under test is one that is shipped.
fn is_optimised(host: &Host) -> bool {
    host.binary()
        .parent()
        .is_some_and(|directory| directory.ends_with("release"))
}

#[test]
fn a_scrape_of_64_generations_is_quick() -> Result<()> {
    let (host, _) = host("metrics_expire = \"1h\"")?;
    upgrade(&host, "gen0")?;
    upgrade(&host, "gen1")?;
    host.wait_state("gen0", &["stopped"])?;
    for number in 2..=LIVING {
        let name = format!("gen{number}");
        host.deploy(&name, &Kind::Plain.command(host.directory(), &name, 8080)?)?;
    }
    let mut took = Vec::new();
    let before = Exposition::of(&host, OPENMETRICS)?.value("process_cpu_seconds_total", &[])?;
    for _ in 0..30 {
        let scrape = Exposition::of(&host, OPENMETRICS)?;
        let seen = scrape.values("hotlb_connections_opened_total", &[])?.len();
        ensure!(seen == LIVING + 1, "{seen} generations");
        took.push(scrape.took);
    }
    took.sort();
    let cpu = Exposition::of(&host, OPENMETRICS)?.value("process_cpu_seconds_total", &[])?;
    report::figure(
        "CPU of the agent for each such scrape",
        format!("{:.2} ms", (cpu - before) * 1000.0 / 31.0),
    );
    let shown = |took: Option<&Duration>| took.map_or(0.0, |took| took.as_secs_f64() * 1000.0);
    report::figure(
        "a scrape of 64 generations, median",
        format!("{:.2} ms", shown(took.get(15))),
    );
    report::figure(
        "a scrape of 64 generations, slowest of 30",
        format!("{:.2} ms", shown(took.last())),
    );
    // The quickest: others may use the machine.
    let limit = if is_optimised(&host) {
        QUICK
    } else {
        UNOPTIMISED
    };
    ensure!(took.first().is_some_and(|took| *took <= limit), "{took:?}");
    Ok(())
}
