//! What a generation that gets no new connection still has to finish before it can be ended.

use std::{sync::Arc, time::Duration};

use lb_common::GenerationId;

use super::{Service, find::own_cgroup, pace::Pace};
use crate::{
    clock::Deadline,
    generation::established::{self, Holders},
    sys::{
        cgroup::Cgroup,
        established::{Connection, State},
        tcp_info::TcpInfo,
    },
};

/// How long both sides must have been silent for a connection to be at rest.
const REST: Duration = Duration::from_millis(200);
/// How often connections are looked at one by one.
const LOOK: Duration = Duration::from_millis(50);

impl Service {
    /// Waits until a generation that gets no new connection has nothing in flight, for as long as
    /// its connections may end by themselves: new clients wait meanwhile. Clients that keep a
    /// connection and say nothing are asked to leave, and not waited for.
    pub(super) async fn finish_in_flight(self: &Arc<Self>, id: GenerationId) {
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
