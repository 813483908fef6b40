//! Generations that drain.

use std::time::Duration;

use crate::{
    agent::observed::Observed, rollout::GenerationState, telemetry::metrics::row::Samples,
};

pub(in crate::telemetry::metrics) fn under_way(observed: &Observed, out: &mut Samples) {
    out.services(observed, |s| {
        s.generations.iter().filter(|g| g.drain.is_some()).count() as u64
    });
}

pub(in crate::telemetry::metrics) fn remaining(observed: &Observed, out: &mut Samples) {
    out.generations(observed, |g| {
        Some(match g.state {
            GenerationState::Draining | GenerationState::Stopping => g.connections.live,
            _ => 0,
        })
    });
}

pub(in crate::telemetry::metrics) fn elapsed(observed: &Observed, out: &mut Samples) {
    out.generations(observed, |g| {
        let drain = g.drain.as_ref()?;
        Some(Duration::from_millis(drain.elapsed_ms))
    });
}

pub(in crate::telemetry::metrics) fn deadline(observed: &Observed, out: &mut Samples) {
    out.generations(observed, |g| {
        let drain = g.drain.as_ref()?;
        Some(Duration::from_millis(drain.deadline_in_ms))
    });
}

pub(in crate::telemetry::metrics) fn leaving(observed: &Observed, out: &mut Samples) {
    out.services(observed, |s| s.polite.leaving);
}

pub(in crate::telemetry::metrics) fn way(observed: &Observed, out: &mut Samples) {
    for service in &observed.services {
        let way = match (service.polite.way, &service.polite.why_not) {
            (Some(way), _) => way.name(),
            (None, Some(_)) => "none",
            (None, None) => "off",
        };
        out.add([&service.name, way], 1_u64);
    }
}

pub(in crate::telemetry::metrics) fn responses(observed: &Observed, out: &mut Samples) {
    for service in &observed.services {
        for (outcome, &count) in &service.polite.responses {
            out.add([&service.name, outcome], count);
        }
    }
}
