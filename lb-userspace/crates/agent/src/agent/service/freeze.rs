//! The hot tier: a drained generation that is frozen instead of stopped.

use lb_common::GenerationId;

use super::{Context, registry::Registry};
use crate::{store::Origin, sys::cgroup::Cgroup};

/// Why a generation is not frozen that the agent did not start: while frozen it would answer
/// neither its supervisor's signals nor its watchdog, and in somebody else's cgroup others may run.
const SUPERVISED: &str = "is not frozen, because its own supervisor could not end it then";

/// Freezes a generation on standby, if the operator wants that, and offers its memory to
/// others. One that cannot be frozen stands by as it is, and says why.
pub(super) fn freeze(context: &Context, registry: &mut Registry, id: GenerationId) {
    if !context.config.keep.freeze {
        return;
    }
    let Some(generation) = registry.get_mut(id) else {
        return;
    };
    if generation.provenance().origin != Origin::Launched {
        generation.note_frozen(Some(SUPERVISED.to_owned()));
        return;
    }
    let not_frozen = match generation.cgroup().freeze() {
        Ok(()) => None,
        Err(error) => {
            tracing::warn!(
                %error,
                generation = generation.name(),
                "failed to freeze a generation"
            );
            Some(format!("cannot be frozen: {error}"))
        }
    };
    let is_frozen = not_frozen.is_none();
    generation.note_frozen(not_frozen);
    if is_frozen {
        let cgroup = generation.cgroup().clone();
        // The kernel writes pages out meanwhile; nobody waits for that.
        tokio::task::spawn_blocking(move || match cgroup.reclaim() {
            Ok(()) => {}
            Err(error) => tracing::debug!(
                %error,
                "failed to reclaim the memory of a frozen generation"
            ),
        });
    }
}

/// Has the processes of `cgroup` run on. What is somebody else's was not frozen here.
pub(super) fn thaw(context: &Context, cgroup: &Cgroup) {
    if cgroup.is_foreign() {
        return;
    }
    if let Err(error) = cgroup.thaw() {
        tracing::error!(service = context.name(), %error, "failed to thaw a generation");
    }
}
