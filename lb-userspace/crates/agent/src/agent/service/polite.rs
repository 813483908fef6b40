//! Polite drain: asking the clients of a generation that drains to leave by themselves.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    sync::Arc,
};

use lb_common::GenerationId;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{
    Context,
    registry::{Generation, Registry},
    shared::SharedState,
    wake,
};
use crate::{
    config::PoliteMode,
    datapath::{Asked, Polite, Way},
    generation::established::{self, Holders},
    rollout::GenerationState,
    sys::{
        cgroup::Cgroup,
        established::{Connection, State},
    },
};

/// What one call of [`PoliteDrain::ask`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PoliteReport {
    /// Connections asked, by this call.
    asked: usize,
    /// Connections that were not, by the reason. Those "not accepted yet" are tried again by the
    /// next call.
    left_alone: BTreeMap<&'static str, usize>,
}

impl PoliteReport {
    fn leave_alone(&mut self, reason: &'static str) {
        *self.left_alone.entry(reason).or_default() += 1;
    }
}

/// The server has it in its queue.
const NOT_ACCEPTED: &str = "not accepted yet";
/// One side has closed its direction.
const CLOSING: &str = "already closing";
/// No process of the generation has it open.
const NOT_HELD: &str = "held by no process of the generation";
/// The kernel does not take it into the map, or its packets are not what the server writes.
const REFUSED: &str = "not plain TCP (kernel TLS, MPTCP, MSG_ZEROCOPY), or no room";

/// Asks clients to leave, and remembers who was asked. Clones share that.
#[derive(Clone, Debug, Default)]
pub(super) struct PoliteDrain(Arc<Mutex<Politeness>>);

/// Who was asked, by generation.
type Politeness = HashMap<GenerationId, Seen>;

/// Who has it alone touches connections without the lock of the state: nobody else does, and nobody takes the
/// service into custody. Taken before that lock, never after.
#[derive(Debug)]
pub(super) struct Turn(OwnedMutexGuard<Politeness>);

/// What is known of one generation's connections.
#[derive(Debug, Default)]
struct Seen {
    /// Those that need no second look.
    done: HashSet<u64>,
    /// How many connections had come in all when every one of them was done.
    complete_at: Option<u64>,
}

impl PoliteDrain {
    /// Waits until nobody touches connections.
    pub(super) async fn turn(&self) -> Turn {
        Turn(Arc::clone(&self.0).lock_owned().await)
    }

    /// Asks the clients of a draining generation to leave after their current response: those not
    /// asked before. Connections that are accepted later are asked by the next call; when nothing
    /// can be new, it costs two reads of counters. Takes no lock of the registry while it looks.
    pub(super) async fn ask(
        &self,
        context: &Arc<Context>,
        state: &SharedState,
        id: GenerationId,
    ) -> PoliteReport {
        if context.config.drain.polite == PoliteMode::Off {
            return PoliteReport::default();
        }
        let mut turn = self.turn().await;
        let cgroup = state
            .look(|registry| match registry.get(id) {
                Some(generation) if drains(generation.state()) => generation.own_cgroup(),
                _ => None,
            })
            .await;
        let Some(cgroup) = cgroup else {
            return PoliteReport::default();
        };
        let context = Arc::clone(context);
        let asking = tokio::task::spawn_blocking(move || {
            ask_new_ones(&context, id, &cgroup, turn.0.entry(id).or_default())
        });
        asking.await.unwrap_or_default()
    }

    /// Asks nobody any more of a generation that does not drain (it was rolled back to), and
    /// forgets those that ended.
    pub(super) async fn settle(&self, context: &Arc<Context>, state: &SharedState) {
        let Turn(mut asked) = self.turn().await;
        if asked.is_empty() {
            return;
        }
        let over: Vec<(Seen, Option<Cgroup>)> = state
            .look(|registry| {
                let over = asked.extract_if(|&id, _| !drains_now(registry, id));
                over.map(|(id, seen)| (seen, registry.get(id).and_then(Generation::own_cgroup)))
                    .collect()
            })
            .await;
        let of = Arc::clone(context);
        let releasing = tokio::task::spawn_blocking(move || {
            let nobody_drains = asked.is_empty();
            release_all(&of, &over, nobody_drains);
            if !nobody_drains {
                follow_devices(&of, false);
            }
        });
        if let Err(error) = releasing.await {
            tracing::error!(
                service = context.name(),
                %error,
                "failed to stop asking clients to leave"
            );
        }
    }
}

/// Asks no longer whom a generation has that does not drain any more.
fn release_all(context: &Context, over: &[(Seen, Option<Cgroup>)], nobody_drains: bool) {
    let Ok(polite) = context.path.polite() else {
        return;
    };
    if nobody_drains {
        polite.rest(|| established::cookies(&context.ports()).ok());
    }
    for (seen, cgroup) in over {
        seen.done.iter().for_each(|&cookie| polite.release(cookie));
        let Some(cgroup) = cgroup else {
            continue;
        };
        match polite.way() {
            Way::Messages => wake::readers(context, cgroup),
            Way::Packets if nobody_drains => {}
            Way::Packets => wake::with_each(
                context,
                cgroup,
                |connection| seen.done.contains(&connection.cookie),
                |cookie, socket| polite.spare(cookie, &socket),
            ),
        }
    }
}

/// Whether clients can be asked now, on all of the network devices, as far as that is known before somebody `begins`
/// to be asked.
fn follow_devices(context: &Context, begins: bool) -> bool {
    let Ok(polite) = context.path.polite() else {
        return false; // `status` says why
    };
    polite
        .follow(&context.netns, begins)
        .unwrap_or_else(|error| {
            tracing::warn!(
                service = context.name(),
                %error,
                "failed to ask clients to leave: cannot attach to the network devices"
            );
            false
        })
}

fn ask_new_ones(
    context: &Context,
    id: GenerationId,
    cgroup: &Cgroup,
    seen: &mut Seen,
) -> PoliteReport {
    let mut report = PoliteReport::default();
    let Ok(polite) = context.path.polite() else {
        return report; // `status` says why
    };
    let counts = context.path.connections(Some(id));
    let came = counts.opened + counts.moved_in;
    if !follow_devices(context, false) || seen.complete_at == Some(came) {
        return report;
    }
    let found = match established::find(cgroup, &context.ports(), counts.moved_in > 0) {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(
                service = context.name(),
                %error,
                "failed to ask clients to leave: cannot list connections"
            );
            return report;
        }
    };
    let still: HashSet<u64> = found.iter().map(|connection| connection.cookie).collect();
    seen.done.retain(|cookie| still.contains(cookie));
    let mut new = found
        .iter()
        .filter(|c| !seen.done.contains(&c.cookie))
        .peekable();
    // Nothing is loaded or attached for a generation without clients.
    if new.peek().is_some() && !follow_devices(context, true) {
        return report;
    }
    let mut asking = Asking::new(polite, cgroup);
    let done: Vec<u64> = new
        .filter(|connection| asking.ask(connection, &mut report))
        .map(|connection| connection.cookie)
        .collect();
    seen.done.extend(done);
    seen.complete_at = (still.len() == seen.done.len()).then_some(came);
    tracing::debug!(
        service = context.name(),
        asked = report.asked,
        left_alone = ?report.left_alone,
        "asked clients to leave"
    );
    report
}

/// Asks connections one by one; looks at the processes only if there is one to ask.
struct Asking<'a> {
    polite: &'a Polite,
    cgroup: &'a Cgroup,
    holders: Option<Holders>,
}

impl<'a> Asking<'a> {
    const fn new(polite: &'a Polite, cgroup: &'a Cgroup) -> Self {
        Self {
            polite,
            cgroup,
            holders: None,
        }
    }

    /// Asks one. False if it must be looked at again.
    fn ask(&mut self, connection: &Connection, report: &mut PoliteReport) -> bool {
        if connection.state != State::Established {
            report.leave_alone(CLOSING);
            return true;
        }
        if connection.inode == 0 {
            report.leave_alone(NOT_ACCEPTED);
            return false;
        }
        let cgroup = self.cgroup;
        let holders = self.holders.get_or_insert_with(|| Holders::of(cgroup));
        let socket = match holders.take(connection) {
            Ok(socket) => socket,
            Err(error) => {
                let gone = error.kind() == io::ErrorKind::NotFound;
                tracing::debug!(
                    %error,
                    peer = %connection.peer,
                    gone,
                    "failed to duplicate the socket of a connection"
                );
                report.leave_alone(NOT_HELD);
                return true;
            }
        };
        match self.polite.ask(connection.cookie, &socket) {
            Ok(Asked::Now) => report.asked += 1,
            Ok(Asked::Before) => {}
            Ok(Asked::Not) => report.leave_alone(REFUSED),
            Err(error) => {
                tracing::warn!(%error, peer = %connection.peer, "failed to ask a client to leave");
                report.leave_alone(REFUSED);
            }
        }
        true
    }
}

fn drains(state: GenerationState) -> bool {
    matches!(state, GenerationState::Draining | GenerationState::Stopping)
}

fn drains_now(registry: &Registry, id: GenerationId) -> bool {
    registry
        .get(id)
        .is_some_and(|generation| drains(generation.state()))
}
