//! Waking servers that wait for bytes they have.
//!
//! A connection that was asked to leave is given back to its server as it was, but a kernel that told the server
//! wrong meanwhile tells it nothing anew: a server that waits for the next bytes would wait for ever.

use std::{io, os::fd::OwnedFd, sync::Arc};

use super::{Context, polite::PoliteDrain, registry::Generation, shared::SharedState};
use crate::{
    generation::established::{self, Holders},
    sys::{cgroup::Cgroup, established::Connection, wake},
};

/// Wakes the servers of the generation whose connections hold what was not read. Those that read slowly hear
/// of it once more, and do what they did.
pub(super) fn readers(context: &Context, cgroup: &Cgroup) {
    let is_unread = |connection: &Connection| connection.receive_queue > 0;
    with_each(context, cgroup, is_unread, |_, socket| wake::reader(socket));
}

/// Does `what` to the connections of the generation that are `wanted` and held by a process of it.
pub(super) fn with_each(
    context: &Context,
    cgroup: &Cgroup,
    wanted: impl Fn(&Connection) -> bool,
    mut what: impl FnMut(u64, OwnedFd) -> io::Result<()>,
) {
    let found = match established::find(cgroup, &context.ports(), true) {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(service = context.name(), %error, "failed to list connections to wake");
            return;
        }
    };
    let mut wanted = found
        .iter()
        .filter(|connection| connection.inode != 0 && wanted(connection))
        .peekable();
    if wanted.peek().is_none() {
        return;
    }
    let mut holders = Holders::of(cgroup);
    for connection in wanted {
        let taken = holders.take(connection);
        if let Err(error) = taken.and_then(|socket| what(connection.cookie, socket)) {
            tracing::debug!(%error, peer = %connection.peer, "failed to act on a connection");
        }
    }
}

/// Wakes the servers that an agent before this one may have left waiting, by asking their clients on a kernel
/// that tells servers wrong. It may have asked them no longer, and left them so all the same.
pub(super) fn after_another(
    context: Arc<Context>,
    state: SharedState,
    polite: PoliteDrain,
    found: bool,
) {
    let silences = match context.path.polite() {
        Ok(polite) => polite.silences(),
        Err(impolite) => impolite.silences(),
    };
    if !found || !silences {
        return;
    }
    tokio::spawn(async move {
        let _touching = polite.turn().await;
        let cgroups: Vec<Cgroup> = state
            .look(|registry| {
                let living = registry.living();
                living.filter_map(Generation::own_cgroup).collect()
            })
            .await;
        let waking = tokio::task::spawn_blocking({
            let context = Arc::clone(&context);
            move || {
                for cgroup in &cgroups {
                    readers(&context, cgroup);
                }
            }
        });
        if let Err(error) = waking.await {
            tracing::error!(service = context.name(), %error, "failed to wake servers");
        }
    });
}
