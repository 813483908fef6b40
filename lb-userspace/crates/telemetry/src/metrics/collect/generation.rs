//! Where generations stand.

use crate::{metrics::row::Samples, observed::Observed, rollout::GenerationState};

pub(in crate::metrics) fn state(observed: &Observed, out: &mut Samples) {
    for service in &observed.services {
        for generation in &service.generations {
            for state in GenerationState::ALL {
                out.add(
                    [&service.name, &generation.name, state.name()],
                    generation.state == state,
                );
            }
        }
    }
}

pub(in crate::metrics) fn hung_listeners(observed: &Observed, out: &mut Samples) {
    for service in &observed.services {
        for generation in &service.generations {
            out.add([&service.name, &generation.name], generation.hung_listeners);
        }
    }
}

pub(in crate::metrics) fn hung_seconds(observed: &Observed, out: &mut Samples) {
    for service in &observed.services {
        for generation in &service.generations {
            let hangs_for = generation.hangs_for.unwrap_or_default();
            out.add([&service.name, &generation.name], hangs_for.as_secs());
        }
    }
}
