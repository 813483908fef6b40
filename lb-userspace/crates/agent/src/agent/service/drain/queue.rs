//! The accept queues of a generation that gets no new connection.

use std::{net::Shutdown, sync::Arc, time::Duration};

use lb_common::GenerationId;

use super::{
    super::{find::own_cgroup, pace::Pace, registry::Generation},
    Leaving,
};
use crate::{
    clock::Deadline,
    generation::{
        established::{self, Holders},
        listeners,
    },
    sys::{
        cgroup::Cgroup,
        established::{Connection, State},
        listener,
        sock_diag::{Protocol, Waiting},
        tcp_info::TcpInfo,
    },
};

/// Longest wait for a server that does take connections, if slowly.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long both sides must have been silent for a connection to be at rest.
const REST: Duration = Duration::from_millis(200);
/// How often connections are looked at one by one.
const LOOK: Duration = Duration::from_millis(50);

impl Leaving {
    /// Waits until the generation has taken everybody from its queues. One that takes nobody for
    /// `hung_after` is hung: its listeners are shut down, upon which the kernel moves who waits
    /// to the active generation. Says so then.
    pub(in crate::agent::service) async fn empty_queues(&self, id: GenerationId) -> Option<String> {
        let cgroup = own_cgroup(&self.state, id).await?;
        let mut pace = Pace::until(Deadline::after(PATIENCE.max(self.config.drain.hung_after)));
        let mut hung = Deadline::after(self.config.drain.hung_after);
        let mut fewest = u32::MAX;
        loop {
            let listeners =
                listeners::find(&self.netns, &cgroup, Protocol::Tcp).unwrap_or_default();
            let waiting: u32 = listeners.iter().map(|listener| listener.queue).sum();
            if waiting == 0 {
                return None;
            }
            if waiting < fewest {
                fewest = waiting;
                hung = Deadline::after(self.config.drain.hung_after);
            }
            let over = hung.left().is_none();
            if (over || !self.state.look_again(&mut pace).await) && self.active_is_not(id) {
                // Under the lock, for it is for the agent in charge to do.
                let registry = self.state.lock().await;
                let is_own = registry.get(id).and_then(Generation::own_cgroup).is_some();
                if !is_own || !self.active_is_not(id) {
                    return None;
                }
                shut_down(&cgroup, &listeners);
                drop(registry);
                return Some(format!(
                    "it accepted no connection for {}: {waiting} connections were moved from its \
                     queue",
                    humantime::format_duration(self.config.drain.hung_after)
                ));
            }
        }
    }

    /// Whether somebody else can take the connections over.
    fn active_is_not(&self, id: GenerationId) -> bool {
        self.path.word().active != Some(id)
    }

    /// Waits until a generation that gets no new connection has nothing in flight, for as long as
    /// its connections may end by themselves: new clients wait meanwhile. Clients that keep a
    /// connection and say nothing are asked to leave, and not waited for.
    pub(in crate::agent::service) async fn finish_in_flight(self: &Arc<Self>, id: GenerationId) {
        let mut pace = Pace::until(Deadline::after(self.config.drain.signal_after()));
        let mut look = Deadline::after(Duration::ZERO);
        while self.path.live(Some(id)) > 0 {
            self.polite.ask(&self.context, &self.state, id).await;
            if look.left().is_none() {
                if self.rests(id).await {
                    return;
                }
                look = Deadline::after(LOOK);
            }
            if !self.state.look_again(&mut pace).await {
                return;
            }
        }
    }

    /// Whether every connection of the generation is at rest. False when that cannot be told.
    async fn rests(&self, id: GenerationId) -> bool {
        let Some(cgroup) = own_cgroup(&self.state, id).await else {
            return true;
        };
        let ports = self.ports();
        let moved = self.path.connections(Some(id)).moved_in > 0;
        let looking = tokio::task::spawn_blocking(move || {
            let found = established::find(&cgroup, &ports, moved).ok()?;
            Some(all_rest(&cgroup, &found))
        });
        matches!(looking.await, Ok(Some(true)))
    }
}

/// Ends the listeners: all their duplicates, the server's own included, stop listening.
fn shut_down(cgroup: &Cgroup, listeners: &[Waiting]) {
    for socket in listeners::take(cgroup, listeners).values() {
        if let Err(error) = listener::shut_down(socket, Shutdown::Read) {
            tracing::warn!(%error, "failed to shut down a hung listener");
        }
    }
}

fn all_rest(cgroup: &Cgroup, connections: &[Connection]) -> bool {
    let queued = |connection: &&Connection| {
        let open = matches!(connection.state, State::Established | State::CloseWait);
        connection.receive_queue > 0 || connection.send_queue > 0 || open && connection.inode == 0
    };
    if connections.iter().any(|connection| queued(&connection)) {
        return false;
    }
    let mut holders = Holders::of(cgroup);
    connections
        .iter()
        .filter(|connection| connection.inode != 0)
        .all(|connection| {
            // One that nobody has open any more is over.
            let socket = holders.take(connection);
            socket.map_or(true, |socket| {
                TcpInfo::of(&socket).is_ok_and(|info| info.rests_for(REST))
            })
        })
}
