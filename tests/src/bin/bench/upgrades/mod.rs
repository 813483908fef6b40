//! The same upgrades under load in the ways there are: hotlb's, those that are built into servers, and none.

mod bare;
mod haproxy;
mod nginx;
mod steered;

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;
use hotlb_tests::{
    host::Host,
    load::{Load, Outcome, Plan},
    report,
    servers::Kind,
};

use crate::Scale;

pub(super) const ADDRESS: &str = "0.0.0.0:8080";
const TARGET: &str = "127.0.0.1:8080";
pub(super) const LIMIT: Duration = Duration::from_secs(20);
/// Upgrades of one way.
const UPGRADES: usize = 10;
/// Answers between two upgrades.
const BETWEEN: u64 = 2000;

/// A server that can be replaced by its next version.
pub(super) trait Site {
    /// Has version `number` serve and the one before not any more, as far as that is waited for in this way.
    fn upgrade(&mut self, number: usize) -> Result<()>;
    /// Where it runs.
    fn host(&self) -> &Host;
}

/// Starts version 0.
type Start = fn() -> Result<Box<dyn Site>>;

const WAYS: &[(&str, Start)] = &[
    ("hotlb upgrade", steered::start),
    ("nginx -s reload", nginx::reload),
    ("nginx -s reload, reuseport, 4 or 2 workers", nginx::workers),
    ("nginx binary upgrade", nginx::binary),
    ("haproxy reload, listeners passed on", haproxy::passing),
    ("haproxy reload", haproxy::plain),
    ("nginx stopped and started", nginx::again),
    ("SO_REUSEPORT overlap, tcp_migrate_req=0", bare::in_order),
    (
        "SO_REUSEPORT overlap, tcp_migrate_req=1",
        bare::in_order_migrating,
    ),
    (
        "SO_REUSEPORT overlap, killed, tcp_migrate_req=0",
        bare::killed,
    ),
    (
        "SO_REUSEPORT overlap, killed, tcp_migrate_req=1",
        bare::killed_migrating,
    ),
];

pub(crate) fn measure(scale: Scale) -> Result<()> {
    if let Some(reason) = Kind::Nginx.missing().or(Kind::Haproxy.missing()) {
        return report::skip("bench upgrades", reason);
    }
    let plan = Plan::new(TARGET.parse::<SocketAddr>()?);
    for (what, plan) in [
        ("new connections", plan.clone()),
        ("kept connections", plan.keep_alive()),
    ] {
        for clients in [32, 128] {
            for &(way, start) in WAYS {
                let outcome = upgrades(start, scale, plan.clone().workers(clients))?;
                show(&format!("{clients} {what}: {way}"), &outcome);
            }
        }
    }
    Ok(())
}

fn upgrades(start: Start, scale: Scale, plan: Plan) -> Result<Outcome> {
    let mut site = start()?;
    let load = Load::start(site.host().netns(), plan)?;
    for number in 1..=scale.rounds(UPGRADES) {
        load.wait_more(BETWEEN, LIMIT)?;
        site.upgrade(number)?;
    }
    load.wait_more(BETWEEN, LIMIT)?;
    load.stop()
}

fn show(name: &str, outcome: &Outcome) {
    let requests = outcome.requests();
    let per_million = |count: u64| count * 1_000_000 / requests.max(1);
    report::figure(
        name,
        format!(
            "{requests} requests, failed {} ({} per million), slower than 250 ms {} ({} per million), slowest {} ms",
            outcome.failed,
            per_million(outcome.failed),
            outcome.slow,
            per_million(outcome.slow),
            outcome.max.as_millis()
        ),
    );
}
