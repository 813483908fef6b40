//! Profiles that are kept, and what that costs.

use std::time::Duration;

use crate::{
    api::wire::KeptProfilesStatus,
    metrics::row::{Samples, Value},
    observed::Observed,
};

pub(in crate::metrics) fn running(observed: &Observed, out: &mut Samples) {
    each(observed, out, |kept| kept.runs.into());
}

pub(in crate::metrics) fn cpu(observed: &Observed, out: &mut Samples) {
    each(observed, out, |kept| {
        Duration::from_millis(kept.cpu_ms).into()
    });
}

pub(in crate::metrics) fn memory(observed: &Observed, out: &mut Samples) {
    each(observed, out, |kept| kept.memory_bytes.into());
}

pub(in crate::metrics) fn samples(observed: &Observed, out: &mut Samples) {
    each(observed, out, |kept| kept.samples.into());
}

fn each(observed: &Observed, out: &mut Samples, value: fn(&KeptProfilesStatus) -> Value) {
    for service in &observed.services {
        if let Some(kept) = &service.profiles {
            out.add([&service.name], value(kept));
        }
    }
}
