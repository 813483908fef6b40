//! Promise: an agent holds nothing of the generations that are gone.

use std::net::SocketAddr;

use anyhow::Result;
use hotlb_tests::{
    cycles,
    footprint::Footprint,
    host::Host,
    load::{Load, Plan},
    report,
};

const TARGET: &str = "127.0.0.1:8080";
/// Generations until the agent has filled its pools.
const FIRST: usize = 30;
const LAST: usize = 90;
/// KiB that an allocator may keep more of; 60 leaked generations with their maps would be more.
const SLACK: u64 = 1536;

#[test]
fn generations_that_are_gone_leave_nothing() -> Result<()> {
    let mut host = Host::with_service("listen = [\"0.0.0.0:8080\"]\n")?;
    let target: SocketAddr = TARGET.parse()?;
    cycles::run(&host, target, 1..=FIRST)?;
    let load = Load::start(host.netns(), Plan::new(target).workers(2))?;
    let before = Footprint::at_rest(&mut host)?;
    cycles::run(&host, target, FIRST + 1..=LAST)?;
    load.stop()?.expect_none_failed()?;
    let after = Footprint::at_rest(&mut host)?;
    report::figure("an agent after 30 generations", before);
    report::figure("an agent after 90 generations", after);
    after.expect_no_more_than(&before, SLACK)
}
