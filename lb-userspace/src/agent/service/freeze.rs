//! The hot tier: a drained generation that is frozen instead of stopped.

use lb_common::GenerationId;

use super::{Service, books::Books};
use crate::sys::cgroup::Cgroup;

impl Service {
    /// Freezes a generation on standby, if the operator wants that, and offers its memory to
    /// others. One that cannot be frozen stands by as it is, and says why.
    pub(super) fn freeze(&self, books: &mut Books, id: GenerationId) {
        if !self.config.keep.freeze {
            return;
        }
        let Some(generation) = books.get_mut(id) else {
            return;
        };
        generation.not_frozen = match generation.cgroup.freeze() {
            Ok(()) => None,
            Err(error) => {
                tracing::warn!(%error, generation = generation.name, "cannot be frozen");
                Some(format!("cannot be frozen: {error}"))
            }
        };
        if generation.not_frozen.is_none() {
            let cgroup = generation.cgroup.clone();
            // The kernel writes pages out meanwhile; nobody waits for that.
            tokio::task::spawn_blocking(move || match cgroup.reclaim() {
                Ok(()) => {}
                Err(error) => tracing::debug!(%error, "its memory stays where it is"),
            });
        }
    }

    /// Has the processes of `cgroup` run on.
    pub(super) fn thaw(&self, cgroup: &Cgroup) {
        if let Err(error) = cgroup.thaw() {
            tracing::error!(service = self.name(), %error, "cannot be thawed");
        }
    }
}
