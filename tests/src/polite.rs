//! Upgrades of stock nginx under kept connections: the story that polite drain is about.

use std::time::Duration;

use anyhow::Result;

use crate::{
    host::Host,
    servers::Nginx,
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
    /// Former generations that were drained and ended.
    pub upgrades: usize,
    /// What the clients saw.
    pub clients: WrkOutcome,
    /// How long each promote took, to the end of the former generation.
    pub promotes: Vec<Duration>,
}

/// Whole upgrades, one after the other (deploy, promote, the former ends by its signal), with
/// `drain.polite` set to `polite`.
pub fn upgrades(upgrades: usize, polite: &str) -> Result<Upgrades> {
    let host = Host::with_service(&format!(
        "listen = [\"0.0.0.0:8080\"]\nkeep = \"0s\"\n\
         drain = {{ polite = \"{polite}\", signal_after = \"500ms\", deadline = \"10s\" }}"
    ))?;
    let nginx = |number: usize| {
        Nginx::new(&format!("gen{number}"))
            .listen("0.0.0.0:8080")
            .command(host.directory())
    };
    host.upgrade("gen0", &nginx(0)?)?;
    let wrk = Wrk::start(host.netns(), TARGET.parse()?, CONNECTIONS)?;
    let mut promotes = Vec::new();
    for number in 1..=upgrades {
        let generation = format!("gen{number}");
        host.deploy(&generation, &nginx(number)?)?;
        // Everybody has come over from the generation before.
        let former = format!("gen{}", number - 1);
        wait::until_true("all clients are connected", LIMIT, || {
            let live = host.generation(&former).map(|found| found.connections.live);
            live.is_ok_and(|live| live >= i64::from(CONNECTIONS))
        })?;
        promotes.push(host.promote(&generation)?.took);
        host.wait_state(&former, &["stopped"])?;
    }
    Ok(Upgrades {
        upgrades,
        clients: wrk.stop()?,
        promotes,
    })
}
