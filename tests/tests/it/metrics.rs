//! Promise: `/metrics` says in `OpenMetrics` text what `status` says.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{host::Host, load::Plan, servers::Kind};

/// Every family, with a label each of its samples carries.
const FAMILIES: [(&str, &str); 13] = [
    ("hotlb_connections_opened_total", "generation="),
    ("hotlb_connections_closed_total", "generation="),
    ("hotlb_connections_aborted_total", "generation="),
    ("hotlb_connections_live", "generation="),
    ("hotlb_steering_calls_total", "service="),
    ("hotlb_steering_exits_total", "exit="),
    ("hotlb_generation_state", "state="),
    ("hotlb_promotes_total", "service="),
    ("hotlb_rollbacks_total", "service="),
    ("hotlb_failovers_total", "service="),
    ("hotlb_parked_connections", "service="),
    ("hotlb_drain_remaining_connections", "generation="),
    ("hotlb_build_info", "version="),
];

fn scrape(host: &Host) -> Result<String> {
    let metrics: SocketAddr = "127.0.0.1:9464".parse()?;
    let answer = host.ask_path(metrics, "/metrics")?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(answer.body)
}

/// The value of the first sample of `name` whose labels contain all of `labels`.
fn sample(text: &str, name: &str, labels: &[&str]) -> Result<f64> {
    let mut lines = text.lines().filter(|line| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(['{', ' ']))
    });
    let line = lines.find(|line| labels.iter().all(|label| line.contains(label)));
    let line = line.with_context(|| format!("no sample of {name} with {labels:?} in\n{text}"))?;
    Ok(line.rsplit(' ').next().context("an empty line")?.parse()?)
}

fn scene() -> Result<(Host, SocketAddr)> {
    let host = Host::with_service("listen = [\"0.0.0.0:8080\"]")?;
    for generation in ["gen1", "gen2"] {
        host.upgrade(
            generation,
            &Kind::Plain.command(host.directory(), generation, 8080)?,
        )?;
    }
    host.ok(&["rollback"])?;
    Ok((host, "127.0.0.1:8080".parse()?))
}

#[test]
fn every_family_is_there() -> Result<()> {
    let (host, target) = scene()?;
    host.expect_answers(target, 50, "gen1")?;
    let text = scrape(&host)?;
    for (name, label) in FAMILIES {
        let family = name.strip_suffix("_total").unwrap_or(name);
        ensure!(
            text.contains(&format!("# TYPE {family} ")),
            "no type of {family}\n{text}"
        );
        ensure!(
            text.contains(&format!("# HELP {family} ")),
            "no help of {family}\n{text}"
        );
        sample(&text, name, &[label])?;
    }
    ensure!(text.ends_with("# EOF\n"), "not OpenMetrics\n{text}");
    Ok(())
}

#[test]
fn the_values_are_those_of_the_status() -> Result<()> {
    let (host, target) = scene()?;
    let load = host.load(Plan::new(target).workers(4).max_requests(100))?;
    load.wait_for("100 answers", Duration::from_secs(10), |outcome| {
        outcome.ok == 100
    })?;
    load.stop()?.expect_none_lost()?;
    let text = scrape(&host)?;
    let service = "service=\"web\"";
    ensure!(
        sample(&text, "hotlb_promotes_total", &[service])? >= 2.0,
        "{text}"
    );
    ensure!(
        (sample(&text, "hotlb_rollbacks_total", &[service])? - 1.0).abs() < 0.5,
        "{text}"
    );
    let active = ["generation=\"gen1\"", service, "state=\"active\""];
    ensure!(
        (sample(&text, "hotlb_generation_state", &active)? - 1.0).abs() < 0.5,
        "{text}"
    );
    let other = ["generation=\"gen2\"", service, "state=\"active\""];
    ensure!(
        sample(&text, "hotlb_generation_state", &other)? < 0.5,
        "{text}"
    );
    let opened = sample(
        &text,
        "hotlb_connections_opened_total",
        &["generation=\"gen1\"", service],
    )?;
    let expected = host.generation("gen1")?.connections.opened;
    ensure!(
        (opened - f64::from(u32::try_from(expected)?)).abs() < 0.5,
        "{opened}, but the status says {expected}"
    );
    let exits: f64 = text
        .lines()
        .filter(|line| line.starts_with("hotlb_steering_exits_total{"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum();
    let calls = sample(&text, "hotlb_steering_calls_total", &[service])?;
    ensure!(
        (exits - calls).abs() < 0.5,
        "{exits} exits, {calls} calls\n{text}"
    );
    Ok(())
}

#[test]
fn metrics_can_be_switched_off() -> Result<()> {
    let host = Host::with_config(
        "[agent]\nmetrics = \"off\"\n[service.web]\nlisten = [\"0.0.0.0:8080\"]\n",
    )?;
    scrape(&host).expect_err("nobody listens there");
    Ok(())
}
