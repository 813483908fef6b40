//! Rollouts: how many, how long, how they ended.

use std::time::Duration;

use crate::{
    metrics::row::{Exemplar, Histogram, Samples, Value},
    observed::{Observed, ObservedService},
    rollout::Phase,
    store::{
        LastRollout, TracedDuration,
        journal::{Outcome, RolloutKind},
    },
};

pub(in crate::metrics) fn promotes(observed: &Observed, out: &mut Samples) {
    out.services(observed, |s| s.promotes);
}

pub(in crate::metrics) fn rollbacks(observed: &Observed, out: &mut Samples) {
    out.services(observed, |s| s.rollbacks);
}

pub(in crate::metrics) fn failovers(observed: &Observed, out: &mut Samples) {
    out.services(observed, |s| s.failovers);
}

pub(in crate::metrics) fn ended(observed: &Observed, out: &mut Samples) {
    // Fail-overs have a metric of their own: one in a rollout is a part of that.
    let kinds = [
        RolloutKind::Promote,
        RolloutKind::Upgrade,
        RolloutKind::Rollback,
    ];
    for service in &observed.services {
        for kind in kinds {
            for outcome in Outcome::ALL {
                let count = service.rollout_stats.rollouts(kind, outcome);
                out.add([&service.name, kind.name(), outcome.name()], count);
            }
        }
    }
}

pub(in crate::metrics) fn phase(observed: &Observed, out: &mut Samples) {
    for service in &observed.services {
        for phase in Phase::ALL.into_iter().filter(|phase| !phase.is_over()) {
            out.add([&service.name, phase.name()], service.phase == Some(phase));
        }
    }
}

pub(in crate::metrics) fn promote_duration(observed: &Observed, out: &mut Samples) {
    out.services(observed, |s| Histogram {
        buckets: s.rollout_stats.steered.buckets(),
        sum: s.rollout_stats.steered.sum().as_secs_f64(),
        native: None,
        exemplars: s.rollout_stats.steered.traced().map(exemplar).collect(),
    });
}

fn exemplar((bucket, traced): (usize, &TracedDuration)) -> (usize, Exemplar) {
    let exemplar = Exemplar {
        trace: traced.trace.clone(),
        value: Duration::from_micros(traced.took_us).as_secs_f64(),
        at_ms: Some(traced.at_ms),
    };
    (bucket, exemplar)
}

pub(in crate::metrics) fn last_duration(observed: &Observed, out: &mut Samples) {
    last(observed, out, |last| last.took.into());
}

pub(in crate::metrics) fn last_success(observed: &Observed, out: &mut Samples) {
    last(observed, out, |last| last.done.into());
}

pub(in crate::metrics) fn last_ended(observed: &Observed, out: &mut Samples) {
    last(observed, out, |last| {
        Duration::from_millis(u64::try_from(last.ended_ms).unwrap_or_default()).into()
    });
}

fn last(observed: &Observed, out: &mut Samples, value: fn(&LastRollout) -> Value) {
    let ended = |s: &ObservedService| s.rollout_stats.last;
    for service in &observed.services {
        if let Some(last) = ended(service) {
            out.add([&service.name], value(&last));
        }
    }
}

pub(in crate::metrics) fn hooks(observed: &Observed, out: &mut Samples) {
    let phases = [
        Phase::PreLoad,
        Phase::Validate,
        Phase::Swap,
        Phase::PostRollback,
    ];
    for service in &observed.services {
        for phase in phases {
            let counts = service.rollout_stats.hooks(phase);
            let labels = |outcome| [&service.name, phase.name(), outcome];
            out.add(labels("succeeded"), counts.succeeded);
            out.add(labels("failed"), counts.failed);
        }
    }
}

pub(in crate::metrics) fn warnings(observed: &Observed, out: &mut Samples) {
    out.services(observed, |s| s.warnings);
}
