//! What the agent relies on and somebody else can take away: pins, directories, sockets, files. It
//! is looked at once a second, for all services together, and put back.

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::time::{MissedTickBehavior, interval};

use super::{Agent, Host};
use crate::{clock, datapath, generation::output::Looked, observed::ObservedSupport};

/// How often it is looked at.
const EACH: Duration = Duration::from_secs(1);

/// What can vanish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Support {
    /// Pins of maps, programs and links.
    Pins,
    /// The runtime, state or pin directory, or the lock in it.
    Directory,
    /// The control socket.
    Socket,
    /// A keeper's socket.
    Keeper,
    /// A ledger.
    Ledger,
    /// The process that takes servers' outputs to their files.
    Logger,
}

impl Support {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Pins,
        Self::Directory,
        Self::Socket,
        Self::Keeper,
        Self::Ledger,
        Self::Logger,
    ];

    /// Its name in the metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pins => "pins",
            Self::Directory => "directory",
            Self::Socket => "socket",
            Self::Keeper => "keeper",
            Self::Ledger => "ledger",
            Self::Logger => "logger",
        }
    }
}

/// What became of one support so far.
#[derive(Clone, Debug, Default)]
struct Record {
    /// How often it was put back.
    restored: u64,
    /// The last time, and what it was.
    last: Option<(Instant, String)>,
    /// Why it cannot be put back, while it is gone.
    missing: Option<String>,
}

/// Of this process, as what it holds is.
static RECORDS: Mutex<BTreeMap<Support, Record>> = Mutex::new(BTreeMap::new());

fn records() -> MutexGuard<'static, BTreeMap<Support, Record>> {
    RECORDS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes that something had vanished and is there again.
pub(super) fn restored(support: Support, what: String) {
    tracing::error!(
        support = support.name(),
        "restored after it vanished: {what}"
    );
    let mut records = records();
    let record = records.entry(support).or_default();
    record.restored += 1;
    record.last = Some((clock::now(), what));
    record.missing = None;
}

fn found(support: Support, missing: Option<String>) {
    let mut records = records();
    let record = records.entry(support).or_default();
    if let Some(reason) = &missing
        && record.missing.is_none()
    {
        tracing::error!(
            support = support.name(),
            reason,
            "failed to restore what the agent relies on"
        );
    }
    record.missing = missing;
}

/// How often each was put back, and whether it is gone.
pub(super) fn observe() -> Vec<ObservedSupport> {
    let records = records();
    let supports = Support::ALL.into_iter().map(|support| {
        let record = records.get(&support).cloned().unwrap_or_default();
        ObservedSupport {
            name: support.name(),
            restored: record.restored,
            is_missing: record.missing.is_some(),
        }
    });
    supports.collect()
}

/// What `status` says of it.
pub(super) fn warnings() -> Vec<String> {
    let mut warnings = Vec::new();
    for record in records().values() {
        if let Some(missing) = &record.missing {
            warnings.push(missing.clone());
        }
        if let Some((at, what)) = &record.last {
            let ago = Duration::from_secs(at.elapsed().as_secs());
            warnings.push(format!(
                "restored after it vanished: {what} ({} ago, {} so far); find out what removes it",
                humantime::format_duration(ago),
                times(record.restored)
            ));
        }
    }
    warnings
}

fn times(count: u64) -> String {
    match count {
        1 => "once".to_owned(),
        count => format!("{count} times"),
    }
}

/// Opens the control socket anew.
pub(crate) type Reopen = Arc<dyn Fn(&Path) -> io::Result<()> + Send + Sync>;

/// Looks once a second, until the services are a successor's.
pub(crate) async fn keep(agent: Arc<Agent>, reopen: Reopen) {
    let mut each = interval(EACH);
    each.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        each.tick().await;
        // Held to the end: a hand-over waits for whoever looks.
        let services = agent.services.read().await;
        if services.is_a_successors() {
            return;
        }
        look_for_logger(&agent.host).await;
        let looking = Arc::clone(&agent);
        let names: Vec<String> = services.all().into_keys().collect();
        let reopen = Arc::clone(&reopen);
        let looked =
            tokio::task::spawn_blocking(move || look(&looking.host, &names, &*reopen)).await;
        if let Err(error) = looked {
            tracing::error!(%error, "failed to check what the agent relies on");
        }
    }
}

async fn look_for_logger(host: &Host) {
    let missing = match host.logger().look_after().await {
        Ok(Looked::Replaced) => {
            restored(Support::Logger, "the logger of server output".to_owned());
            None
        }
        Ok(Looked::Well | Looked::Begun) => None,
        Err(error) => Some(format!(
            "server output is not written to its files because there is no logger: {error}; a \
             server blocks once its pipe is full"
        )),
    };
    found(Support::Logger, missing);
}

fn look(host: &Host, services: &[String], reopen: &dyn Fn(&Path) -> io::Result<()>) {
    let places = host.places();
    match host.stand_again() {
        Ok(gone) => {
            for dir in gone {
                let what = format!("{}, or the lock in it", dir.display());
                restored(Support::Directory, what);
            }
            found(Support::Directory, None);
        }
        Err(error) => found(
            Support::Directory,
            Some(format!(
                "failed to recreate a directory of the agent: {error}"
            )),
        ),
    }
    let pins = places.bpffs.display();
    match datapath::mend(&places.bpffs, services) {
        Ok(mended) => {
            if !mended.pinned.is_empty() {
                let (count, why) = (mended.pinned.len(), mended.why);
                restored(Support::Pins, format!("{count} pins in {pins} ({why})"));
            }
            found(Support::Pins, None);
        }
        Err(error) => found(
            Support::Pins,
            Some(format!(
                "failed to hold or restore pins in {pins}: {error}; services keep working while \
                 this agent runs, but the next agent would not find the pins"
            )),
        ),
    }
    let socket = places.socket();
    if !socket.exists() {
        match reopen(&socket) {
            Ok(()) => restored(
                Support::Socket,
                format!("the control socket {}", socket.display()),
            ),
            Err(error) => found(
                Support::Socket,
                Some(format!("failed to recreate the control socket: {error}")),
            ),
        }
    }
}
