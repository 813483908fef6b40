//! Promise: an agent with hundreds of services starts soon, promotes many of them at once, and costs no connection more
//! than an agent with one. With `HOTLB_FULL` there are 500.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hotlb::datapath::yardstick::{self, Statistics};
use hotlb_tests::{
    fleet::{Fleet, PROMOTED_AT_ONCE},
    host::Host,
    load::{Load, Plan},
    patience, report, wait,
};

const SERVICES: u16 = 40;
const ALL_SERVICES: u16 = 500;
const LIMIT: Duration = Duration::from_mins(5);
/// How long an agent may need that finds everything.
const START: Duration = Duration::from_secs(2);
/// The same for a build that is only for tests.
const UNOPTIMISED: Duration = Duration::from_secs(8);
/// Connections a measurement.
const EACH: u64 = 2_000;
/// What all programs may cost a connection more than with one service. An instance for each service of a program that
/// sees all sockets of the host costs twenty times as much.
const DEARER: f64 = 2.0;

#[test]
fn many_services_of_one_agent() -> Result<()> {
    let full = std::env::var_os("HOTLB_FULL").is_some();
    let services = if full { ALL_SERVICES } else { SERVICES };
    let alone = cost_beside(1)?;
    let mut host = Host::without_agent()?;
    let fleet = Fleet::configure(&host, services, "")?;
    let first = host.start_agent_timed(LIMIT)?;
    report::figure(&format!("{services} services made, ms"), first.as_millis());
    fleet.deploy(&host, services, "gen1")?;
    fleet.promote(&host, services, "gen1")?;
    let at_once = services.min(PROMOTED_AT_ONCE);
    fleet.deploy(&host, at_once, "gen2")?;
    let loads = [0, at_once - 1].map(|index| {
        let plan = Plan::new(Fleet::address_of(index)).workers(4);
        Load::start(host.netns(), plan)
    });
    let [one, other] = loads;
    let (one, other) = (one?, other?);
    one.wait_more(100, LIMIT)?;
    other.wait_more(100, LIMIT)?;
    let promotes = fleet.promote(&host, at_once, "gen2")?;
    let longest = promotes.iter().map(|promote| promote.took).max();
    report::figure(
        &format!("{at_once} promotes at once: the last one, ms"),
        longest.unwrap_or_default().as_millis(),
    );
    for load in [one, other] {
        load.wait_for("answers of gen2", LIMIT, |outcome| outcome.by("gen2") > 100)?;
        load.stop()?.expect_none_lost()?;
    }
    for index in 0..at_once {
        host.expect_answers(Fleet::address_of(index), 3, "gen2")?;
    }
    for index in at_once..services {
        host.expect_answers(Fleet::address_of(index), 3, "gen1")?;
    }
    host.kill_agent()?;
    let again = host.start_agent_timed(LIMIT)?;
    report::figure(
        &format!("{services} services found again, ms"),
        again.as_millis(),
    );
    let bound = if cfg!(debug_assertions) {
        UNOPTIMISED
    } else {
        START
    };
    ensure!(again < patience::of(bound), "it took {again:?}");
    host.expect_answers(
        Fleet::address_of(services - 1),
        3,
        if at_once < services { "gen1" } else { "gen2" },
    )?;
    let beside = cost(&host)?;
    report::figure(
        "all programs, ns a connection, one service",
        format!("{alone:.0}"),
    );
    report::figure(
        &format!("all programs, ns a connection, {services} services"),
        format!("{beside:.0}"),
    );
    ensure!(beside < alone * DEARER, "{alone} ns and {beside} ns");
    Ok(())
}

/// Nothing of what all services share is left when they are gone.
#[test]
fn nothing_shared_is_left() -> Result<()> {
    let mut host = Host::without_agent()?;
    Fleet::configure(&host, 3, "")?;
    host.start_agent()?;
    ensure!(host.bpffs().exists());
    host.ok(&["down"])?;
    wait::until_true("the pins are gone", LIMIT, || !host.bpffs().exists())
}

/// Two services on one port of one network: one is in the tables of all services, the other is measured by itself.
#[test]
fn one_port_of_two_services_is_measured_for_both() -> Result<()> {
    let host = Host::with_config(
        "[agent]\nmetrics = \"off\"\n[service.one]\nlisten = [\"127.0.0.1:8080\"]\n\
         [service.two]\nlisten = [\"127.0.0.2:8080\"]\n",
    )?;
    for (service, address) in [("one", "127.0.0.1:8080"), ("two", "127.0.0.2:8080")] {
        let server = hotlb_tests::servers::Plain::new("gen1")
            .listen(address)
            .command()?;
        let mut deploy = vec!["deploy", "--service", service, "--generation", "gen1", "--"];
        deploy.extend(server.iter().map(String::as_str));
        host.ok(&deploy)?;
        host.ok(&["promote", "--service", service, "gen1"])?;
        host.expect_answers(address.parse()?, 20, "gen1")?;
        let measured = host.status()?.service(service)?.generation("gen1")?.latency;
        ensure!(
            measured.queue_wait.count >= 20 && measured.service_time.count >= 20,
            "{service}: {measured:?}"
        );
    }
    Ok(())
}

fn cost_beside(services: u16) -> Result<f64> {
    let mut host = Host::without_agent()?;
    let fleet = Fleet::configure(&host, services, "")?;
    host.start_agent_timed(LIMIT)?;
    fleet.deploy(&host, services, "gen1")?;
    fleet.promote(&host, services, "gen1")?;
    cost(&host)
}

/// Nanoseconds of all programs on the host for each connection to the first service.
fn cost(host: &Host) -> Result<f64> {
    let target = Fleet::address_of(0);
    let _statistics = Statistics::on()?;
    let before = yardstick::all_programs()?;
    let load = host.load(Plan::new(target).max_requests(EACH))?;
    load.wait_for("the measurement", LIMIT, |outcome| {
        outcome.requests() >= EACH
    })?;
    load.stop()?.expect_none_failed()?;
    let after = yardstick::all_programs()?;
    let spent = after.nanoseconds.checked_sub(before.nanoseconds);
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let each = spent.context("programs went meanwhile")? as f64 / EACH as f64;
    Ok(each)
}
