//! Promise: a Prometheus that stores native histograms gets the kernel's own buckets, and its quantiles are those of the
//! clients; its exemplars lead to the rollout's trace.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{
    exposition::{Exposition, OPENMETRICS},
    held::Held,
    history,
    host::Host,
    prometheus::{self, Exemplar, Prometheus},
    report,
    servers::{Kind, Plain},
    wait,
};

const TARGET: &str = "127.0.0.1:8080";
const LIMIT: Duration = Duration::from_secs(30);
/// How far a quantile may be from what the clients measured.
const NEAR: f64 = 0.1;

fn host() -> Result<(Host, SocketAddr)> {
    let host = Host::with_service("listen = [\"0.0.0.0:8080\"]\n")?;
    host.upgrade(
        "gen1",
        &Plain::new("gen1").listen("0.0.0.0:8080").command()?,
    )?;
    Ok((host, TARGET.parse()?))
}

/// Clients whose answers take 30 to 630 ms; what each of them measured, in seconds, shortest first.
fn clients(host: &Host, target: SocketAddr) -> Result<Vec<f64>> {
    let lengths = (0..200).map(|n| Duration::from_millis(30 + 3 * n));
    let held = Held::open(host.netns(), target, lengths.collect())?;
    let mut measured = Vec::new();
    for ending in held.finish()? {
        ending.result.context("no answer")?;
        measured.push(ending.ended.duration_since(ending.asked).as_secs_f64());
    }
    measured.sort_by(f64::total_cmp);
    Ok(measured)
}

#[test]
fn quantiles_of_prometheus_are_those_of_the_clients() -> Result<()> {
    if let Some(reason) = prometheus::missing() {
        return report::skip("native histograms", reason);
    }
    let (host, target) = host()?;
    let prometheus = Prometheus::start_with(&host, &["native-histograms"])?;
    let before = host.generation("gen1")?.latency.service_time.count;
    let measured = clients(&host, target)?;
    let series = "hotlb_service_time_seconds{generation=\"gen1\"}";
    let count = f64::from(u32::try_from(before)?) + 200.0;
    prometheus.wait_value(&host, &format!("histogram_count({series})"), count)?;
    for (part, rank) in [(0.5, 100), (0.9, 180), (0.99, 198)] {
        // Probes before them took next to nothing: the ranks of the clients begin behind theirs.
        let behind = f64::from(u32::try_from(before)?);
        let whole = behind.mul_add(1.0, 200.0 * part) / count;
        let asked = prometheus.query(&host, &format!("histogram_quantile({whole}, {series})"))?;
        let [found] = asked.as_slice() else {
            anyhow::bail!("{asked:?}");
        };
        let wanted = *measured.get(rank - 1).context("a rank")?;
        let apart = (found - wanted).abs() / wanted;
        report::figure(
            &format!("native histogram, quantile {part}: Prometheus, clients, apart"),
            format!(
                "{:.1} ms, {:.1} ms, {:.1} %",
                found * 1e3,
                wanted * 1e3,
                apart * 100.0
            ),
        );
        ensure!(
            apart < NEAR,
            "{part}: {found} s, the clients say {wanted} s"
        );
    }
    // The rest is there by the same scrape, under its usual name.
    let opened = prometheus.query(&host, "hotlb_connections_opened_total{generation=\"gen1\"}")?;
    ensure!(opened.len() == 1, "{opened:?}");
    let total = "histogram_count(hotlb_service_service_time_seconds) >= 200";
    ensure!(prometheus.query(&host, total)?.len() == 1, "no totals");
    Ok(())
}

/// Fails unless an exemplar of `series` leads to the trace.
fn expect_exemplar(
    prometheus: &Prometheus,
    host: &Host,
    series: &str,
    trace: &str,
) -> Result<Exemplar> {
    wait::until(&format!("{series} leads to {trace}"), LIMIT, || {
        let all = prometheus.exemplars(host, series).ok()?;
        all.into_iter().find(|exemplar| {
            exemplar
                .labels
                .get("trace_id")
                .is_some_and(|id| id == trace)
        })
    })
    .with_context(|| {
        let scrape = Exposition::of(host, OPENMETRICS).map(|scrape| scrape.text);
        format!("{:?}\n{scrape:?}", prometheus.exemplars(host, series))
    })
}

#[test]
fn exemplars_lead_to_the_trace_of_the_rollout() -> Result<()> {
    if let Some(reason) = prometheus::missing() {
        return report::skip("exemplars", reason);
    }
    for native in [false, true] {
        let (host, target) = host()?;
        let features: &[&str] = if native {
            &["exemplar-storage", "native-histograms"]
        } else {
            &["exemplar-storage"]
        };
        let prometheus = Prometheus::start_with(&host, features)?;
        let server = Kind::Plain.command(host.directory(), "gen2", target.port())?;
        let mut arguments = vec![
            "upgrade",
            "--generation",
            "gen2",
            "--bake",
            "1s",
            "--no-wait",
            "--",
        ];
        arguments.extend(server.iter().map(String::as_str));
        host.ok(&arguments)?;
        host.expect_answers(target, 20, "gen2")?;
        history::wait_all_over(&host)?;
        let told = history::last(&host)?;
        let trace = history::text(&told, "/trace").context("no trace")?;
        let latency = if native {
            "hotlb_service_time_seconds"
        } else {
            "hotlb_service_time_seconds_bucket"
        };
        for series in [latency, "hotlb_promote_duration_seconds_bucket"] {
            let exemplar = expect_exemplar(&prometheus, &host, series, trace)?;
            let value: f64 = exemplar.value.parse()?;
            ensure!(value > 0.0 && value < 60.0, "{exemplar:?}");
            report::figure(&format!("exemplar of {series}"), format!("{exemplar:?}"));
        }
    }
    Ok(())
}
