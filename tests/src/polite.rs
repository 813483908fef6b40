//! Upgrades under kept connections: the story that polite drain is about.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::{
    host::Host,
    servers::Kind,
    wait,
    wrk::{Wrk, WrkOutcome},
};

/// Kept connections.
pub const CONNECTIONS: u32 = 64;
const TARGET: &str = "127.0.0.1:8080";
const LIMIT: Duration = Duration::from_secs(20);

/// What came of it.
#[derive(Clone, Debug)]
pub struct Upgrades {
    /// What the clients saw.
    pub clients: WrkOutcome,
    /// How long each promote took, to the end of the former generation.
    pub promotes: Vec<Duration>,
    /// What was done with the responses that were looked at; those of no kind left out.
    pub responses: BTreeMap<String, u64>,
}

/// Whole upgrades of a server, one after the other (deploy, promote, the former ends by its
/// signal), with `drain.polite` set to `mode`: `count` of them, and on for at least `least`.
pub fn upgrades(kind: Kind, mode: &str, count: usize, least: Duration) -> Result<Upgrades> {
    let host = Host::with_service(&format!(
        "listen = [\"0.0.0.0:8080\"]\nkeep = \"0s\"\n\
         drain = {{ polite = \"{mode}\", signal_after = \"500ms\", deadline = \"10s\" }}"
    ))?;
    let server = |name: &str| kind.command(host.directory(), name, 8080);
    host.upgrade("gen0", &server("gen0")?)?;
    let wrk = Wrk::start(host.netns(), TARGET.parse()?, CONNECTIONS)?;
    let began = Instant::now();
    let mut promotes = Vec::new();
    while promotes.len() < count || began.elapsed() < least {
        let former = format!("gen{}", promotes.len());
        let generation = format!("gen{}", promotes.len() + 1);
        host.deploy(&generation, &server(&generation)?)?;
        // Everybody has come over from the generation before.
        wait::until_true("all clients are connected", LIMIT, || {
            let live = host.generation(&former).map(|found| found.connections.live);
            live.is_ok_and(|live| live >= i64::from(CONNECTIONS))
        })?;
        promotes.push(host.promote(&generation)?.took);
        host.wait_state(&former, &["stopped"])?;
    }
    let mut responses = host.web()?.polite.responses;
    responses.retain(|_, count| *count > 0);
    Ok(Upgrades {
        clients: wrk.stop()?,
        promotes,
        responses,
    })
}
