//! Polite drain: asking the clients of a generation that drains to leave by themselves.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    io,
    sync::{Arc, atomic::Ordering},
};

use lb_common::GenerationId;

use super::{
    Service,
    books::{Books, Generation},
};
use crate::{
    config::PoliteMode,
    datapath::{Asked, Polite, Way},
    generation::established::{self, Holders, Ports},
    rollout::GenerationState,
    sys::{
        cgroup::Cgroup,
        established::{Connection, State},
    },
};

/// What one call of [`Service::ask_to_leave`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PoliteReport {
    /// Connections asked, by this call.
    pub(super) asked: usize,
    /// Connections that were not, by the reason. Those "not accepted yet" are tried again by the
    /// next call.
    pub(super) left_alone: BTreeMap<&'static str, usize>,
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

/// Who was asked, by generation.
#[derive(Debug, Default)]
pub(super) struct Politeness(HashMap<GenerationId, Seen>);

/// What is known of one generation's connections.
#[derive(Debug, Default)]
struct Seen {
    /// Those that need no second look.
    done: HashSet<u64>,
    /// How many connections had come in all when every one of them was done.
    complete_at: Option<u64>,
}

impl Service {
    /// Asks the clients of a draining generation to leave after their current response: those not
    /// asked before. Connections that are accepted later are asked by the next call; when nothing
    /// can be new, it costs two reads of counters. Takes no lock of the books while it looks.
    pub(super) async fn ask_to_leave(self: &Arc<Self>, id: GenerationId) -> PoliteReport {
        if self.config.drain.polite == PoliteMode::Off {
            return PoliteReport::default();
        }
        let mut politeness = Arc::clone(&self.politeness).lock_owned().await;
        let cgroup = {
            let books = self.books.lock().await;
            match books.get(id) {
                Some(generation) if drains(generation.state) => generation.own_cgroup(),
                _ => None,
            }
        };
        let Some(cgroup) = cgroup else {
            return PoliteReport::default();
        };
        let service = Arc::clone(self);
        let asking = tokio::task::spawn_blocking(move || {
            service.ask_new_ones(id, &cgroup, politeness.0.entry(id).or_default())
        });
        asking.await.unwrap_or_default()
    }

    /// Asks nobody any more of a generation that does not drain (it was rolled back to), and
    /// forgets those that ended.
    pub(super) async fn settle_politeness(self: &Arc<Self>) {
        let mut politeness = Arc::clone(&self.politeness).lock_owned().await;
        if politeness.0.is_empty() {
            return;
        }
        let over: Vec<(Seen, Option<Cgroup>)> = {
            let books = self.books.lock().await;
            let over = politeness.0.extract_if(|&id, _| !drains_now(&books, id));
            over.map(|(id, seen)| (seen, books.get(id).and_then(Generation::own_cgroup)))
                .collect()
        };
        let service = Arc::clone(self);
        let releasing = tokio::task::spawn_blocking(move || {
            let nobody_drains = politeness.0.is_empty();
            service.release_all(&over, nobody_drains);
            if !nobody_drains {
                service.follow_devices(false);
            }
        });
        if let Err(error) = releasing.await {
            tracing::error!(
                service = self.name(),
                %error,
                "failed to stop asking clients to leave"
            );
        }
    }

    /// Asks no longer whom a generation has that does not drain any more.
    fn release_all(&self, over: &[(Seen, Option<Cgroup>)], nobody_drains: bool) {
        let Ok(polite) = self.path.polite() else {
            return;
        };
        if nobody_drains {
            polite.rest(|| established::cookies(&self.ports()).ok());
        }
        for (seen, cgroup) in over {
            seen.done.iter().for_each(|&cookie| polite.release(cookie));
            let Some(cgroup) = cgroup else {
                continue;
            };
            match polite.way() {
                Way::Messages => self.wake_readers(cgroup),
                Way::Packets if nobody_drains => {}
                Way::Packets => self.with_each(
                    cgroup,
                    |connection| seen.done.contains(&connection.cookie),
                    |cookie, socket| polite.spare(cookie, &socket),
                ),
            }
        }
    }

    /// Whether clients can be asked now, on all of the network devices, as far as that is known before somebody `begins`
    /// to be asked.
    fn follow_devices(&self, begins: bool) -> bool {
        let Ok(polite) = self.path.polite() else {
            return false; // `status` says why
        };
        polite.follow(&self.netns, begins).unwrap_or_else(|error| {
            tracing::warn!(
                service = self.name(),
                %error,
                "failed to ask clients to leave: cannot attach to the network devices"
            );
            false
        })
    }

    /// Cookies of all connections of the service; none when they cannot be listed.
    pub(super) fn all_connections(&self) -> HashSet<u64> {
        established::cookies(&self.ports()).unwrap_or_default()
    }

    fn ask_new_ones(&self, id: GenerationId, cgroup: &Cgroup, seen: &mut Seen) -> PoliteReport {
        let mut report = PoliteReport::default();
        let Ok(polite) = self.path.polite() else {
            return report; // `status` says why
        };
        let counts = self.path.connections(Some(id));
        let came = counts.opened + counts.moved_in;
        if !self.follow_devices(false) || seen.complete_at == Some(came) {
            return report;
        }
        let ports = self.ports();
        let found = match established::find(cgroup, &ports, counts.moved_in > 0) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(
                    service = self.name(),
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
        if new.peek().is_some() && !self.follow_devices(true) {
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
            service = self.name(),
            asked = report.asked,
            left_alone = ?report.left_alone,
            "asked clients to leave"
        );
        report
    }

    /// The ports of the service.
    pub(super) fn ports(&self) -> Ports {
        let listen = self.config.listen.iter();
        let ports: BTreeSet<u16> = listen.map(std::net::SocketAddr::port).collect();
        Ports {
            netns: self.netns.clone(),
            ports: ports.into_iter().collect(),
            transparent: self.transparent.load(Ordering::Relaxed),
        }
    }
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

fn drains_now(books: &Books, id: GenerationId) -> bool {
    books
        .get(id)
        .is_some_and(|generation| drains(generation.state))
}
