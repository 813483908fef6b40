//! One service with several addresses: what happens at one of them happens at all.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result};

use crate::{
    host::Host,
    load::{Outcome, Plan},
    servers::CommandLine,
    status::Service,
    waiting::Waiting,
};

const LIMIT: Duration = Duration::from_secs(15);
/// Clients that wait at each address from before the first generation.
const EARLY: usize = 10;

/// Upgrades from `gen1` to the generation of that `last` number and rolls back once, under load, and looks at every
/// target after each. Gives the service's status at its end, and what became of the load at each target.
pub fn upgrades(
    host: &Host,
    targets: &[&str],
    last: usize,
    server: impl Fn(&str) -> Result<CommandLine>,
) -> Result<(Service, Vec<Outcome>)> {
    let targets = targets
        .iter()
        .map(|target| target.parse().with_context(|| (*target).to_owned()))
        .collect::<Result<Vec<SocketAddr>>>()?;
    let answer_as = |generation: &str| {
        let mut targets = targets.iter();
        targets.try_for_each(|target| host.expect_answers(*target, 20, generation))
    };
    let early = targets
        .iter()
        .map(|target| Waiting::open(host.netns(), *target, EARLY))
        .collect::<Result<Vec<_>>>()?;
    host.upgrade("gen1", &server("gen1")?)?;
    for waiting in early {
        waiting.expect_by("gen1")?;
    }
    let loads = targets
        .iter()
        .map(|target| host.load(Plan::new(*target).workers(8)))
        .collect::<Result<Vec<_>>>()?;
    for number in 2..=last {
        let generation = format!("gen{number}");
        host.upgrade(&generation, &server(&generation)?)?;
        answer_as(&generation)?;
    }
    host.ok(&["rollback"])?;
    answer_as(&format!("gen{}", last - 1))?;
    let mut outcomes = Vec::new();
    for load in loads {
        load.wait_more(200, LIMIT)?;
        outcomes.push(load.stop()?);
    }
    let web = host.web()?;
    web.steering.check_balance()?;
    Ok((web, outcomes))
}
