//! Generations by their names, and where they are.

use lb_common::GenerationId;

use super::{
    Context, VerbError,
    registry::{Generation, Registry},
    shared::SharedState,
};
use crate::sys::cgroup::Cgroup;

/// The id of the generation with this name, for who has the lock.
pub(super) fn named(
    context: &Context,
    registry: &Registry,
    name: &str,
) -> Result<GenerationId, VerbError> {
    registry
        .by_name(name)
        .map(Generation::id)
        .ok_or_else(|| VerbError::UnknownGeneration {
            service: context.name().to_owned(),
            name: name.escape_debug().to_string(),
            known: registry.names(),
        })
}

/// Where the generation's connections and listeners are found.
pub(super) async fn own_cgroup(state: &SharedState, id: GenerationId) -> Option<Cgroup> {
    state.lock().await.get(id)?.own_cgroup()
}
