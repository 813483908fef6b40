//! Seats in the kernel's tables: who gets one, who gives it on, and the counts that never go down although generations
//! are forgotten.

pub(super) mod traced;

use std::{sync::Arc, time::Duration};

use lb_common::GenerationId;

use super::{Context, VerbError, registry::Registry, shared::SharedState, view::accounting};
use crate::{
    datapath::ConnectionCounts,
    store::journal::{Outcome, RolloutKind},
};

/// Generations that ended and are still remembered: their names, reasons and counts.
const REMEMBERED: usize = 16;

/// A rollout that is over.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) kind: RolloutKind,
    pub(super) outcome: Outcome,
    /// From the request.
    pub(super) took: Duration,
    /// From the request to the store of the word, if this agent did it.
    pub(super) steered: Option<Duration>,
    /// Its trace, unless nobody wants that.
    pub(super) trace: Option<String>,
}

/// The seats of generations in the kernel's tables, and the counts that stay when a seat is given on.
#[derive(Debug)]
pub(super) struct Seats {
    context: Arc<Context>,
    state: SharedState,
}

context_of!(Seats);

impl Seats {
    /// Those of a service.
    pub(super) fn new(context: &Arc<Context>, state: &SharedState) -> Self {
        Self {
            context: Arc::clone(context),
            state: state.clone(),
        }
    }

    /// Forgets the oldest of those that ended, beyond what is remembered; not their counts.
    pub(super) fn forget_old(&self, registry: &mut Registry) {
        for generation in registry.forget_ended(REMEMBERED) {
            let counts = accounting::connections(&self.path, &generation);
            registry.sums_mut().retire(counts);
            if !generation.counts().is_unseated() {
                self.keep_latencies(registry, generation.id());
            }
        }
    }

    /// Keeps how long clients waited at the seat of a generation that is forgotten, or whose seat
    /// is given on.
    pub(super) fn keep_latencies(&self, registry: &mut Registry, id: GenerationId) {
        let latencies = self.path.latencies(Some(id));
        registry.sums_mut().keep_latencies(&latencies);
    }

    /// Empties a seat of the kernel's tables for a generation that begins. What it counted for
    /// another one is written down before that: an agent that is killed in between would lose it.
    pub(super) async fn empty_seat(
        &self,
        registry: &mut Registry,
        id: GenerationId,
    ) -> Result<(), VerbError> {
        if self.vacate(registry, id) {
            // The verb says it at its end.
            let _unrecorded = self.state.record(registry).await;
        }
        self.path.clear_seat(id)?;
        Ok(())
    }

    /// A seat in the kernel's tables, empty.
    pub(super) async fn seat_for(
        &self,
        registry: &mut Registry,
    ) -> Result<GenerationId, VerbError> {
        let id = registry
            .next_id(|seat| self.path.seat_in_use(seat))
            .ok_or_else(|| VerbError::System {
                doing: "find a free seat",
                source: std::io::Error::other("127 generations exist at once; stop some"),
            })?;
        self.empty_seat(registry, id).await?;
        Ok(id)
    }

    /// Notes the counts of whoever had the seat before; whether there was anybody.
    pub(super) fn vacate(&self, registry: &mut Registry, id: GenerationId) -> bool {
        let mut was_taken = false;
        for generation in registry.all_mut() {
            if generation.id().seat() == id.seat() && !generation.counts().is_unseated() {
                let all = accounting::connections(&self.path, generation);
                generation.counts_mut().lose_seat(all);
                was_taken = true;
            }
        }
        if was_taken {
            self.keep_latencies(registry, id);
        }
        was_taken
    }

    /// A generation that ended makes room for the next of its name, which inherits its counts and
    /// its place as the one to roll back to.
    pub(super) fn succeed(
        &self,
        registry: &mut Registry,
        name: &str,
        id: GenerationId,
    ) -> ConnectionCounts {
        let Some(earlier) = registry.by_name(name) else {
            return ConnectionCounts::default();
        };
        let counted = accounting::connections(&self.path, earlier);
        let (former, is_seated) = (earlier.id(), !earlier.counts().is_unseated());
        if is_seated {
            self.keep_latencies(registry, former);
        }
        registry.succeed(name, former, id);
        counted
    }

    /// Its row and its cgroup. Its seat stays its own until another generation takes it: its last
    /// connections close later than its processes end.
    pub(super) fn retire_from_kernel(&self, registry: &mut Registry, id: GenerationId) {
        for group in self.path.all_groups() {
            group.unregister(id);
        }
        let Some(generation) = registry.get_mut(id) else {
            return;
        };
        generation.slots_mut().clear();
        self.context.forbid(generation.cgroup());
        if !generation.cgroup().is_populated()
            && let Err(error) = generation.cgroup().remove()
        {
            tracing::debug!(%error, "failed to remove the cgroup of a generation");
        }
    }
}
