//! Promise: a second of a generation that is unlike the others is found, said in words and kept, with the connections
//! that waited and the functions that had the CPU; what is usual is not.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{
    host::Host,
    incidents::{self, Incident},
    load::{Load, Plan},
    report,
    servers::trouble,
    wait,
};

const SERVICE: &str = "listen = [\"0.0.0.0:8080\"]";
const WITH_STACKS: &str =
    "listen = [\"0.0.0.0:8080\"]\nincidents = { stacks = true, pause = \"1s\" }";
const TARGET: &str = "127.0.0.1:8080";
const CONTROL: u16 = 9001;
/// Windows without trouble first.
const USUAL: usize = 12;
const LIMIT: Duration = Duration::from_secs(60);

fn host(keys: &str) -> Result<(Host, Load)> {
    let host = Host::with_service(keys)?;
    host.upgrade(
        "gen1",
        &trouble::command("gen1", CONTROL, &["--wait-ms", "15"])?,
    )?;
    let load = host.load(Plan::new(TARGET.parse()?).workers(8))?;
    Ok((host, load))
}

fn first(host: &Host) -> Result<Incident> {
    let found = wait::until("an incident is kept", LIMIT, || {
        let list = incidents::list(host).ok()?;
        list.into_iter().next()
    });
    let found = found.with_context(|| {
        let windows = host.ok(&["incidents", "windows", "-n", "60"]);
        windows.map_or_else(|error| error.to_string(), |run| run.stdout)
    })?;
    incidents::show(host, &found.id)
}

#[test]
fn an_anomaly_is_kept_with_connections_and_functions() -> Result<()> {
    let (host, load) = host(WITH_STACKS)?;
    incidents::wait_scored(&host, "gen1", USUAL, LIMIT)?;
    trouble::tell(host.netns(), CONTROL, "slow 6000 500 300")?;
    trouble::tell(host.netns(), CONTROL, "burn 6000 1000 20000")?;
    let incident = first(&host)?;
    load.stop()?.expect_none_failed()?;
    report::figure("incidents: reason", &incident.reason);
    println!("{}", host.ok(&["incidents"])?.stdout);
    println!("{}", host.ok(&["incidents", "show", &incident.id])?.stdout);
    println!("{}", host.ok(&["status"])?.stdout);
    Ok(())
}
