//! How long until a promote, or a rollback, is felt by a client.

use std::time::{Duration, Instant};

use anyhow::Result;
use hotlb::api::{
    client::Client,
    wire::{Done, PromoteRequest, RollbackRequest, RolloutOptions},
};
use hotlb_tests::{
    host::Host,
    load::{Load, Plan},
    report,
    servers::Kind,
};

use crate::{
    Scale,
    prober::Prober,
    sample::{Sample, against_aim},
};

const TARGET: &str = "127.0.0.1:8080";
const LIMIT: Duration = Duration::from_secs(10);
const AIM_MS: f64 = 5.0;

pub(crate) fn measure(scale: Scale) -> Result<()> {
    let host = Host::with_service("listen = [\"0.0.0.0:8080\"]")?;
    for generation in ["gen1", "gen2"] {
        let server = Kind::Plain.command(host.directory(), generation, 8080)?;
        host.deploy(generation, &server)?;
    }
    host.promote("gen1")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let client = Client::new(&host.socket());
    series(&host, &runtime, &client, "idle", scale.rounds(100))?;
    let load = Load::start(host.netns(), Plan::new(TARGET.parse()?))?;
    load.wait_more(1000, LIMIT)?;
    series(&host, &runtime, &client, "under load", scale.rounds(100))?;
    let outcome = load.stop()?;
    report::figure("requests meanwhile", outcome.requests());
    report::figure("of these failed", outcome.failed);
    report::figure("of these slower than 250 ms", outcome.slow);
    Ok(())
}

fn series(
    host: &Host,
    runtime: &tokio::runtime::Runtime,
    client: &Client,
    when: &str,
    rounds: usize,
) -> Result<()> {
    let prober = Prober::start(host, TARGET.parse()?)?;
    let mut promotes = Vec::new();
    let mut rollbacks = Vec::new();
    let mut stores = Vec::new();
    for _ in 0..rounds {
        let began = Instant::now();
        let request = PromoteRequest {
            generation: "gen2".to_owned(),
            options: RolloutOptions::default(),
        };
        let done = runtime.block_on(client.verb("/v1/services/-/promote", &request, |_| {}))?;
        promotes.push(prober.felt(began, "gen2")?);
        stores.extend(store(&done));
        let began = Instant::now();
        runtime.block_on(client.verb(
            "/v1/services/-/rollback",
            &RollbackRequest::default(),
            |_| {},
        ))?;
        rollbacks.push(prober.felt(began, "gen1")?);
    }
    prober.stop()?;
    show(&format!("promote, {when}"), promotes);
    show(&format!("rollback, {when}"), rollbacks);
    let stores: Sample = stores.into_iter().collect();
    report::figure(
        &format!("promote, {when}: request to store, ms p50 / p99"),
        format!("{:.2} / {:.2}", stores.median(), stores.quantile(0.99)),
    );
    Ok(())
}

fn store(done: &Done) -> Option<f64> {
    let micros = u32::try_from(done.steered_us?).ok()?;
    Some(f64::from(micros) / 1000.0)
}

fn show(name: &str, values: Vec<f64>) {
    let sample: Sample = values.into_iter().collect();
    let p99 = sample.quantile(0.99);
    against_aim(
        &format!("{name}: first answer, ms p50 / p99"),
        &format!("{:.2} / {p99:.2}", sample.median()),
        &format!("p99 under {AIM_MS} ms"),
        p99 < AIM_MS,
    );
}
