//! Whether the connections that `track` counts are there.
//!
//! It is told of a connection's end by a flag of the connection, which another `sock_ops` program,
//! at a cgroup above, can take away: then they are counted as open for ever, and a drain waits for
//! nobody. The kernel's own list says which are there.

use std::sync::Arc;

use lb_common::GenerationId;

use super::{
    Service,
    books::{Books, Generation},
};
use crate::generation::established;

impl Service {
    /// Compares the generation's count with the kernel's list, and corrects it by what was missing
    /// twice in a row. Connections that moved are counted elsewhere than listed: then it is left.
    pub(super) async fn compare(self: &Arc<Self>, id: GenerationId) {
        let cgroup = self
            .books
            .lock()
            .await
            .get(id)
            .and_then(Generation::own_cgroup);
        let before = self.path.connections(Some(id));
        let Some(cgroup) = cgroup else {
            return;
        };
        if before.live == 0 || self.path.has_moved().unwrap_or(true) {
            return;
        }
        let ports = self.ports();
        let found = tokio::task::spawn_blocking(move || established::find(&cgroup, &ports, false));
        let Ok(Ok(found)) = found.await else {
            return;
        };
        // The list is made while connections come and go. Those that came may be in it, and those
        // that went may not: at least the others should be.
        let after = self.path.connections(Some(id));
        let ended = after.closed.saturating_sub(before.closed);
        let missing = before.live.saturating_sub(found.len() as u64 + ended);
        let mut books = self.books.lock().await;
        self.correct(&mut books, id, missing);
    }

    fn correct(&self, books: &mut Books, id: GenerationId, missing: u64) {
        let Some(generation) = books.get_mut(id) else {
            return;
        };
        let ended = generation.missing.min(missing);
        generation.missing = missing - ended;
        generation.compared_at = self.path.live(Some(id)).saturating_sub(ended);
        if ended == 0 {
            return;
        }
        self.path.forget_ended(id, ended);
        generation.counted.closed += ended;
        generation.unseen_ends += ended;
        tracing::warn!(
            service = self.name(),
            generation = generation.name,
            ended,
            "corrected the count of connections whose end was not counted: another sock_ops \
             program takes the callback away; their losses and bytes are unknown"
        );
        self.changed.notify_waiters();
    }

    /// Those whose count grew since it was compared.
    pub(super) async fn compare_grown(self: &Arc<Self>) {
        let grown: Vec<GenerationId> = {
            let books = self.books.lock().await;
            let living = books.generations.iter().filter(|g| g.state.is_live());
            let grown =
                living.filter(|g| self.path.live(Some(g.id)) > g.compared_at || g.missing > 0);
            grown.map(|g| g.id).collect()
        };
        for id in grown {
            self.compare(id).await;
        }
    }
}
