//! What a generation's clients waited for in a rollout, to lead from its metrics to its trace.

use lb_common::GenerationId;

use super::{
    super::{registry::Registry, rollout::Plan},
    Seats,
};
use crate::{datapath::Latencies, observed::Slowest};

/// A generation's part in a rollout. It is not written down: the next agent begins anew.
#[derive(Clone, Debug)]
pub(in crate::agent::service) struct Traced {
    /// The rollout's trace.
    trace: String,
    /// How long its clients had waited before.
    before: Latencies,
    /// What came of it, once it is over.
    after: Option<Slowest>,
}

impl Traced {
    /// The slowest clients of it, when they have waited as in `now` so far.
    pub(in crate::agent::service) fn slowest(&self, now: Option<&Latencies>) -> Option<Slowest> {
        match &self.after {
            Some(after) => Some(after.clone()),
            None => Some(self.since(now?)),
        }
    }

    fn since(&self, now: &Latencies) -> Slowest {
        let before = &self.before;
        Slowest {
            trace: self.trace.clone(),
            queue_wait: now.queue_wait.greatest_since(&before.queue_wait),
            service_time: now.service_time.greatest_since(&before.service_time),
            lifetime: now.lifetime.greatest_since(&before.lifetime),
        }
    }
}

impl Seats {
    /// A rollout begins, or goes on with these generations.
    pub(in crate::agent::service) fn begin_traced(&self, registry: &mut Registry, plan: &Plan) {
        let Some(trace) = plan.recorded_trace() else {
            return;
        };
        for id in plan.both() {
            self.trace_generation(registry, id, trace);
        }
    }

    fn trace_generation(&self, registry: &mut Registry, id: GenerationId, trace: &str) {
        let Some(generation) = registry.get_mut(id) else {
            return;
        };
        let known = generation.traced();
        if known.is_none_or(|known| known.trace != trace || known.after.is_some()) {
            generation.trace(Traced {
                trace: trace.to_owned(),
                before: self.path.latencies(Some(id)),
                after: None,
            });
        }
    }

    /// A rollout is over: what comes later is not of it.
    pub(in crate::agent::service) fn end_traced(&self, registry: &mut Registry, plan: &Plan) {
        for id in plan.both() {
            let Some(generation) = registry.get_mut(id) else {
                continue;
            };
            let unseated = generation.counts().is_unseated();
            let Some(traced) = generation.traced_mut() else {
                continue;
            };
            if Some(traced.trace.as_str()) == plan.recorded_trace() && !unseated {
                traced.after = Some(traced.since(&self.path.latencies(Some(id))));
            }
        }
    }
}
