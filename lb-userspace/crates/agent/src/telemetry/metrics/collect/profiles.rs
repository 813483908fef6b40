//! Profiles that are kept, and what that costs.

use std::time::Duration;

use crate::{
    agent::observed::Observed,
    api::wire::KeptProfilesStatus,
    telemetry::metrics::row::{Samples, Value},
};

pub(in crate::telemetry::metrics) fn running(observed: &Observed, out: &mut Samples) {
    each(observed, out, |kept| kept.runs.into());
}

pub(in crate::telemetry::metrics) fn cpu(observed: &Observed, out: &mut Samples) {
    each(observed, out, |kept| {
        Duration::from_millis(kept.cpu_ms).into()
    });
}

pub(in crate::telemetry::metrics) fn memory(observed: &Observed, out: &mut Samples) {
    each(observed, out, |kept| kept.memory_bytes.into());
}

pub(in crate::telemetry::metrics) fn samples(observed: &Observed, out: &mut Samples) {
    each(observed, out, |kept| kept.samples.into());
}

fn each(observed: &Observed, out: &mut Samples, value: fn(&KeptProfilesStatus) -> Value) {
    for service in &observed.services {
        if let Some(kept) = &service.profiles {
            out.add([&service.name], value(kept));
        }
    }
}
