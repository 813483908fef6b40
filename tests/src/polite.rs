//! Upgrades under kept connections: the story that polite drain is about.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::unistd::Pid;

use crate::{
    host::Host,
    report,
    servers::Kind,
    status::Polite,
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
    /// By what clients are asked.
    pub way: Way,
}

/// By what clients are asked to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The messages of their server: all of them, as the header is put in where it is missing.
    Messages,
    /// Packets, where a server could not read on otherwise: those whose server says `keep-alive`.
    Packets,
    /// Nothing.
    Nobody,
}

impl Way {
    /// Whether a server that says `keep-alive` has its clients asked.
    pub fn asks(self) -> bool {
        self != Self::Nobody
    }
}

/// By what clients are asked on this kernel. It is shown beside the results, as the tests expect other things then.
pub fn way(polite: &Polite) -> Result<Way> {
    if let Some(why) = &polite.why_not {
        report::figure("polite: nobody is asked on this kernel", why);
    }
    match polite.way.as_deref() {
        Some("messages") => Ok(Way::Messages),
        Some("packets") => Ok(Way::Packets),
        None => Ok(Way::Nobody),
        Some(other) => anyhow::bail!("a way that is not known: {other}"),
    }
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
    let web = host.web()?;
    let way = way(&web.polite)?;
    let mut responses = web.polite.responses;
    responses.retain(|_, count| *count > 0);
    Ok(Upgrades {
        clients: wrk.stop()?,
        promotes,
        responses,
        way,
    })
}

/// The devices that a process's links attach tc programs to. There are no others: it pins none.
pub fn attached(process: Pid) -> Result<Vec<u32>> {
    let directory = format!("/proc/{process}/fdinfo");
    let mut found = Vec::new();
    for entry in fs::read_dir(Path::new(&directory))? {
        // Closed meanwhile.
        let Ok(text) = fs::read_to_string(entry?.path()) else {
            continue;
        };
        let fields = text.lines().filter_map(|line| line.split_once(":\t"));
        if fields.clone().any(|field| field == ("link_type", "tcx")) {
            let index = fields.clone().find(|(name, _)| *name == "ifindex");
            found.push(index.context("a device")?.1.trim().parse()?);
        }
    }
    Ok(found)
}
