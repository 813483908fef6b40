//! Whether the connections that `track` counts are there.
//!
//! It is told of a connection's end by a flag of the connection, which another `sock_ops` program,
//! at a cgroup above, can take away: then they are counted as open for ever, and a drain waits for
//! nobody. The kernel's own list says which are there.

use std::sync::Arc;

use lb_common::GenerationId;

use super::{Context, find::own_cgroup, registry::Generation, shared::SharedState};
use crate::generation::established;

/// Compares the generation's count with the kernel's list, and corrects it by what was missing
/// twice in a row. Connections that moved are counted elsewhere than listed: then it is left.
/// Says whether it was corrected.
pub(super) async fn compare(context: &Arc<Context>, state: &SharedState, id: GenerationId) -> bool {
    let cgroup = own_cgroup(state, id).await;
    let before = context.path.connections(Some(id));
    let Some(cgroup) = cgroup else {
        return false;
    };
    if before.live == 0 || context.path.has_moved().unwrap_or(true) {
        return false;
    }
    let ports = context.ports();
    let found = tokio::task::spawn_blocking(move || established::find(&cgroup, &ports, false));
    let Ok(Ok(found)) = found.await else {
        return false;
    };
    // The list is made while connections come and go. Those that came may be in it, and those
    // that went may not: at least the others should be.
    let after = context.path.connections(Some(id));
    let ended = after.closed.saturating_sub(before.closed);
    let missing = before.live.saturating_sub(found.len() as u64 + ended);
    let mut registry = state.lock().await;
    let generation = registry.get_mut(id);
    generation.is_some_and(|generation| correct(context, generation, missing))
}

fn correct(context: &Context, generation: &mut Generation, missing: u64) -> bool {
    let id = generation.id();
    let live = context.path.live(Some(id));
    let ended = generation.counts_mut().compare(missing, live);
    if ended == 0 {
        return false;
    }
    context.path.forget_ended(id, ended);
    tracing::warn!(
        service = context.name(),
        generation = generation.name(),
        ended,
        "corrected the count of connections: another sock_ops program hid the end of some"
    );
    true
}

/// Those whose count grew since it was compared. Says whether any was corrected.
pub(super) async fn compare_grown(context: &Arc<Context>, state: &SharedState) -> bool {
    let grown: Vec<GenerationId> = state
        .look(|registry| {
            let living = registry.living();
            let grown = living.filter(|g| {
                let live = context.path.live(Some(g.id()));
                g.counts().are_to_compare(live)
            });
            grown.map(Generation::id).collect()
        })
        .await;
    let mut corrected = false;
    for id in grown {
        corrected |= compare(context, state, id).await;
    }
    corrected
}
