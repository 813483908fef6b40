//! Generations that drain.

use std::time::Duration;

use crate::{metrics::row::Samples, observed::Observed, rollout::GenerationState};

pub(in crate::metrics) fn under_way(observed: &Observed, out: &mut Samples) {
    out.services(observed, |s| {
        s.generations.iter().filter(|g| g.drain.is_some()).count() as u64
    });
}

pub(in crate::metrics) fn remaining(observed: &Observed, out: &mut Samples) {
    out.generations(observed, |g| {
        Some(match g.state {
            GenerationState::Draining | GenerationState::Stopping => g.connections.live,
            _ => 0,
        })
    });
}

pub(in crate::metrics) fn elapsed(observed: &Observed, out: &mut Samples) {
    out.generations(observed, |g| {
        let drain = g.drain.as_ref()?;
        Some(Duration::from_millis(drain.elapsed_ms))
    });
}

pub(in crate::metrics) fn deadline(observed: &Observed, out: &mut Samples) {
    out.generations(observed, |g| {
        let drain = g.drain.as_ref()?;
        Some(Duration::from_millis(drain.deadline_in_ms))
    });
}

pub(in crate::metrics) fn leaving(observed: &Observed, out: &mut Samples) {
    out.services(observed, |s| s.polite.leaving);
}

pub(in crate::metrics) fn way(observed: &Observed, out: &mut Samples) {
    for service in &observed.services {
        let way = match (service.polite.way, &service.polite.why_not) {
            (Some(way), _) => way.name(),
            (None, Some(_)) => "none",
            (None, None) => "off",
        };
        out.add([&service.name, way], 1_u64);
    }
}

pub(in crate::metrics) fn responses(observed: &Observed, out: &mut Samples) {
    for service in &observed.services {
        for (outcome, &count) in &service.polite.responses {
            out.add([&service.name, outcome], count);
        }
    }
}
