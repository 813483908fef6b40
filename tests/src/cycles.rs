//! Generation after generation: each is started, promoted, drained and retired.

use std::{fs, net::SocketAddr, ops::RangeInclusive, time::Duration};

use anyhow::{Context as _, Result};

use crate::{host::Host, servers::Kind, wait};

/// How long a generation may take to be retired.
const LIMIT: Duration = Duration::from_secs(20);

/// Takes the host's service `web` at `target` through these generations; afterwards all but the
/// last two are gone.
pub fn run(host: &Host, target: SocketAddr, generations: RangeInclusive<usize>) -> Result<()> {
    let last = *generations.end();
    for number in generations {
        let name = format!("gen{number}");
        let server = Kind::Plain.command(host.directory(), &name, target.port())?;
        host.upgrade(&name, &server)?;
        host.expect_answers(target, 1, &name)?;
    }
    settle(host, &format!("gen{}", last - 1))
}

/// Waits until the active generation and `standby` are the only ones that run, and no counting
/// program of another is left: it stays until the last connection is closed.
pub fn settle(host: &Host, standby: &str) -> Result<()> {
    host.wait_state(standby, &["standby"])?;
    wait::until_true("the others are gone", LIMIT, || {
        host.web().is_ok_and(|web| {
            let ended = |state: &str| ["stopped", "failed"].contains(&state);
            let left = web.generations.iter().filter(|g| !ended(&g.state));
            left.count() == 2
        })
    })?;
    let gone = wait::until_true("their counting programs are gone", LIMIT, || {
        // That of the parking listener, of the active one and of the standby.
        counting(host).is_ok_and(|pins| pins.len() == 3)
    });
    gone.with_context(|| format!("{:?}", counting(host)))
}

/// The counting programs that are pinned.
fn counting(host: &Host) -> Result<Vec<String>> {
    let links = fs::read_dir(host.bpffs().join("web/links"))?;
    let names = links.map(|link| Ok(link?.file_name().into_string().unwrap_or_default()));
    let mut names: Vec<String> = names.collect::<std::io::Result<_>>()?;
    names.retain(|name| name.starts_with("track-"));
    Ok(names)
}
