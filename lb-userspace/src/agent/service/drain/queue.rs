//! The accept queues of a generation that gets no new connection.

use std::{net::Shutdown, time::Duration};

use lb_common::GenerationId;

use super::super::{Service, books::Generation, find::own_cgroup, pace::Pace};
use crate::{
    clock::Deadline,
    generation::listeners,
    sys::{
        cgroup::Cgroup,
        listener,
        sock_diag::{Protocol, Waiting},
    },
};

/// Longest wait for a server that does take connections, if slowly.
const PATIENCE: Duration = Duration::from_secs(10);

impl Service {
    /// Waits until the generation has taken everybody from its queues. One that takes nobody for
    /// `hung_after` is hung: its listeners are shut down, upon which the kernel moves who waits
    /// to the active generation. Says so then.
    pub(super) async fn empty_queues(&self, id: GenerationId) -> Option<String> {
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
                let books = self.state.lock().await;
                let is_own = books.get(id).and_then(Generation::own_cgroup).is_some();
                if !is_own || !self.active_is_not(id) {
                    return None;
                }
                shut_down(&cgroup, &listeners);
                drop(books);
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
}

/// Ends the listeners: all their duplicates, the server's own included, stop listening.
fn shut_down(cgroup: &Cgroup, listeners: &[Waiting]) {
    for socket in listeners::take(cgroup, listeners).values() {
        if let Err(error) = listener::shut_down(socket, Shutdown::Read) {
            tracing::warn!(%error, "failed to shut down a hung listener");
        }
    }
}
