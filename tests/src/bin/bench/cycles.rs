//! What an agent holds after many generations.

use anyhow::Result;
use hotlb_tests::{
    cycles,
    footprint::Footprint,
    host::Host,
    load::{Load, Plan},
    report,
};

use crate::Scale;

const TARGET: &str = "127.0.0.1:8080";
/// Generations after which the agent holds all it needs: its caches and pools are filled.
const WARM: usize = 50;

pub(crate) fn measure(scale: Scale) -> Result<()> {
    let target = TARGET.parse()?;
    let mut host = Host::with_service("listen = [\"0.0.0.0:8080\"]")?;
    cycles::run(&host, target, 1..=WARM)?;
    let load = Load::start(
        host.netns(),
        Plan::new(target).workers(2).max_requests(u64::MAX),
    )?;
    let before = Footprint::at_rest(&mut host)?;
    let parts = 10;
    let each = if scale.quick { 10 } else { 100 };
    let mut resident = vec![before.resident];
    for part in 0..parts {
        let first = WARM + part * each + 1;
        cycles::run(&host, target, first..=first + each - 1)?;
        resident.push(Footprint::of(&mut host)?.resident);
    }
    let outcome = load.stop()?;
    let after = Footprint::at_rest(&mut host)?;
    let cycles = parts * each;
    report::figure(&format!("the agent after {WARM} generations"), before);
    report::figure(&format!("the agent after {cycles} more"), after);
    report::figure(
        "resident memory at each tenth, KiB",
        format!("{resident:?}"),
    );
    report::figure("requests meanwhile", outcome.requests());
    report::figure("of these failed", outcome.failed);
    Ok(())
}
