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

use crate::{Scale, sample::against_aim};

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
    let mut columns = Vec::new();
    let mut outcomes: Vec<Vec<Outcome>> = WAYS.iter().map(|_| Vec::new()).collect();
    for (what, plan) in [("new", plan.clone()), ("kept", plan.keep_alive())] {
        for clients in [32, 128] {
            columns.push(format!("{clients} {what} connections"));
            for (&(way, start), outcomes) in WAYS.iter().zip(&mut outcomes) {
                report::remark(format!("{clients} {what} connections: {way}"));
                outcomes.push(upgrades(start, scale, plan.clone().workers(clients))?);
            }
        }
    }
    let table = |title: &str, cell: fn(&Outcome) -> String| {
        let columns = columns.iter().map(String::as_str);
        let titles: Vec<&str> = std::iter::once(title).chain(columns).collect();
        let rows = WAYS.iter().zip(&outcomes).map(|((way, _), outcomes)| {
            let cells = outcomes.iter().map(cell);
            std::iter::once((*way).to_owned()).chain(cells).collect()
        });
        report::table(&titles, &rows.collect::<Vec<_>>());
    };
    show(table);
    let own = outcomes.first().into_iter().flatten();
    let bad: u64 = own.map(|outcome| outcome.failed + outcome.slow).sum();
    against_aim(
        "hotlb: requests that failed or were slower than 250 ms, of all",
        &bad.to_string(),
        "0",
        bad == 0,
    );
    Ok(())
}

fn show(table: impl Fn(&str, fn(&Outcome) -> String)) {
    table("requests failed, per million (in numbers)", |outcome| {
        let failed = outcome.failed;
        let all = outcome.requests();
        format!("{} ({failed} of {all})", per_million(failed, all))
    });
    table("slower than 250 ms, per million (slowest)", |outcome| {
        let slow = per_million(outcome.slow, outcome.requests());
        format!("{slow} ({} ms)", outcome.max.as_millis())
    });
}

fn per_million(count: u64, all: u64) -> u64 {
    count * 1_000_000 / all.max(1)
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
