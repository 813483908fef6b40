//! Where generations stand.

use crate::{
    agent::observed::Observed, rollout::GenerationState, telemetry::metrics::row::Samples,
};

pub(in crate::telemetry::metrics) fn state(observed: &Observed, out: &mut Samples) {
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

pub(in crate::telemetry::metrics) fn hung_listeners(observed: &Observed, out: &mut Samples) {
    for service in &observed.services {
        for generation in &service.generations {
            out.add([&service.name, &generation.name], generation.hung_listeners);
        }
    }
}
