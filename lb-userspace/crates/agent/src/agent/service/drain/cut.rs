//! What is left of a generation's connections, and ending them.

use std::{collections::HashSet, net::Shutdown, sync::Arc, time::Duration};

use lb_common::GenerationId;

use super::{super::find::own_cgroup, Leaving};
use crate::{
    clock,
    config::Leftovers,
    generation::established::{self, Holders},
    store::journal::CutConnection,
    sys::{
        cgroup::Cgroup, established as connections, established::Connection, listener, netns::Netns,
    },
};

/// A connection that is left, and its age where that is known.
pub(super) struct Left {
    connection: Connection,
    age: Option<Duration>,
}

impl Leaving {
    /// The generation's connections of an age that `wanted` names.
    pub(super) async fn left(
        self: &Arc<Self>,
        id: GenerationId,
        wanted: impl Fn(Option<Duration>) -> bool,
    ) -> Vec<Left> {
        let Some(cgroup) = own_cgroup(&self.state, id).await else {
            return Vec::new();
        };
        let ports = self.ports();
        let moved = self.path.connections(Some(id)).moved_in > 0;
        let found = tokio::task::spawn_blocking(move || established::find(&cgroup, &ports, moved));
        let found = match found.await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                tracing::error!(service = self.name(), %error, "failed to list connections to end");
                return Vec::new();
            }
            Err(error) => {
                tracing::error!(service = self.name(), %error, "a bug aborted the listing of connections");
                return Vec::new();
            }
        };
        found
            .into_iter()
            .map(|connection| Left {
                age: self.path.age(connection.cookie),
                connection,
            })
            .filter(|left| wanted(left.age))
            .collect()
    }

    /// Ends what is due at the deadline of a server that has not been told to end: its signal may
    /// cut those connections all the same.
    pub(in crate::agent::service) async fn cut_due(self: &Arc<Self>, id: GenerationId) {
        if self.config.drain.leftovers != Leftovers::Keep {
            let some_stay = self.long_lived_deadline(id).await.is_some();
            self.cut(id, some_stay).await;
        }
    }

    /// Passes over those that were cut before: some need a moment to be gone.
    async fn forget_listed(&self, id: GenerationId, cut: &mut Vec<CutConnection>) {
        let registry = self.state.lock().await;
        let listed = registry.get(id).map_or(&[][..], |g| g.end().cut_list());
        let listed: HashSet<_> = listed.iter().map(|c| (c.peer, c.local)).collect();
        cut.retain(|c| !listed.contains(&(c.peer, c.local)));
    }

    /// Ends connections as the operator wants it, and writes each down; with `spare_long` not
    /// those that may stay longer. Says how many.
    pub(super) async fn cut(self: &Arc<Self>, id: GenerationId, spare_long: bool) -> u64 {
        // Nobody takes the service into custody meanwhile.
        let _touching = self.polite.turn().await;
        let long = self.config.drain.long_lived.filter(|_| spare_long);
        let is_due =
            |age: Option<Duration>| long.is_none_or(|long| age.is_some_and(|age| age < long.after));
        let left = self.left(id, is_due).await;
        let Some(cgroup) = own_cgroup(&self.state, id).await else {
            return 0;
        };
        let policy = self.config.drain.leftovers;
        let netns = self.netns.clone();
        let ending = tokio::task::spawn_blocking(move || end_all(policy, &netns, &cgroup, &left));
        let mut cut = ending.await.unwrap_or_default();
        self.forget_listed(id, &mut cut).await;
        let count = cut.len() as u64;
        for connection in &cut {
            tracing::warn!(
                service = self.name(),
                peer = %connection.peer,
                age_ms = connection.age_ms,
                how = connection.how,
                "a connection was cut at the deadline"
            );
        }
        let mut registry = self.state.lock().await;
        if let Some(generation) = registry.get_mut(id) {
            generation.end_mut().note_cut(cut);
            self.state.settle(&registry);
        }
        count
    }
}

fn end_all(policy: Leftovers, netns: &Netns, cgroup: &Cgroup, left: &[Left]) -> Vec<CutConnection> {
    let mut holders = Holders::of(cgroup);
    left.iter()
        .map(|left| {
            let how = match policy {
                Leftovers::Destroy => destroy(netns, &left.connection),
                Leftovers::Close | Leftovers::Keep => close(&mut holders, &left.connection),
            };
            CutConnection {
                peer: left.connection.peer,
                local: left.connection.local,
                age_ms: left.age.map(clock::millis),
                state: format!("{:?}", left.connection.state).to_lowercase(),
                how: how.to_owned(),
            }
        })
        .collect()
}

/// Both sides see the end of the stream.
fn close(holders: &mut Holders, connection: &Connection) -> &'static str {
    let taken = holders.take(connection);
    match taken.and_then(|socket| listener::shut_down(socket, Shutdown::Both)) {
        Ok(()) => "closed",
        // In the queue of a server that does not take it, say: the kill ends it.
        Err(_not_held) => "killed",
    }
}

/// Both sides see a reset.
fn destroy(netns: &Netns, connection: &Connection) -> &'static str {
    match connections::destroy(netns, connection) {
        Ok(()) => "destroyed",
        Err(_over) => "killed",
    }
}
