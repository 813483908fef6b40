//! Promise: a disk that does not respond holds up who must write to it, for two seconds, and nobody else: a generation
//! that dies is failed over, `status` and a scrape answer, and what happened meanwhile is written once the disk is back.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use hotlb_tests::{
    exposition::Exposition,
    host::Host,
    mounts::{self, Disk},
    report,
    servers::Plain,
    wait,
};
use nix::sys::signal::{Signal, kill};

const LIMIT: Duration = Duration::from_secs(10);
const QUICK: Duration = Duration::from_millis(250);

fn deploy(host: &Host, generation: &str) -> Result<()> {
    let server = Plain::new(generation).listen("0.0.0.0:8080").command()?;
    host.deploy(generation, &server).map(drop)
}

/// The slowest of some looks.
fn slowest(mut look: impl FnMut() -> Result<()>) -> Result<Duration> {
    let mut slowest = Duration::ZERO;
    for _ in 0..10 {
        let began = Instant::now();
        look()?;
        slowest = slowest.max(began.elapsed());
    }
    Ok(slowest)
}

#[test]
fn who_needs_no_disk_does_not_wait_for_one() -> Result<()> {
    mounts::in_private(|| {
        let mut host = Host::without_agent()?;
        host.write_config(
            "[agent]\nmetrics = \"127.0.0.1:9464\"\n[service.web]\nlisten = [\"0.0.0.0:8080\"]",
        )?;
        let state = host.directory().join("state");
        let disk = Disk::mount(&state)?;
        host.start_agent()?;
        deploy(&host, "a")?;
        host.promote("a")?;
        deploy(&host, "b")?;

        let frozen = disk.freeze()?;
        kill(host.generation("a")?.process()?, Signal::SIGKILL)?;
        let is_active = |name: &str| {
            host.web()
                .is_ok_and(|web| web.active.as_deref() == Some(name))
        };
        wait::until_true("the fail-over is official", LIMIT, || is_active("b"))?;
        let status = slowest(|| host.ok(&["status"]).map(drop))?;
        let scrape = slowest(|| Exposition::of(&host, "").map(drop))?;
        report::figure("disk that hangs: slowest status", format!("{status:.1?}"));
        report::figure("disk that hangs: slowest scrape", format!("{scrape:.1?}"));
        ensure!(status < QUICK && scrape < QUICK, "{status:?}, {scrape:?}");
        let says = |warning: bool| {
            let said = "the ledger cannot be written";
            let run = host.ok(&["status"]);
            run.is_ok_and(|run| run.stdout.contains(said) == warning)
        };
        wait::until_true("status says it", LIMIT, || says(true))?;

        let server = Plain::new("c").listen("0.0.0.0:8080").command()?;
        let began = Instant::now();
        let refused = host.deploy("c", &server).unwrap_err().to_string();
        ensure!(refused.contains("does not respond"), "{refused}");
        // For the output, then for the ledger.
        report::figure(
            "disk that hangs: a deploy is refused after",
            format!("{:.1?}", began.elapsed()),
        );
        ensure!(
            began.elapsed() < Duration::from_secs(8),
            "{:?}",
            began.elapsed()
        );
        let status = slowest(|| host.ok(&["status"]).map(drop))?;
        ensure!(status < QUICK, "{status:?}");

        drop(frozen);
        wait::until_true("the warning goes", LIMIT, || says(false))?;
        let ledger = fs::read_to_string(state.join("web.json"))?;
        ensure!(ledger.contains("\"failovers\": 1"), "{ledger}");
        deploy(&host, "d")?;
        host.promote("d")?;
        host.ok(&["down"]).map(drop)
    })
}
