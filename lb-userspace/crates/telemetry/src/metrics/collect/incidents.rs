//! Windows, and the incidents found in them.

use std::time::Duration;

use crate::{metrics::row::Samples, observed::Observed};

pub(in crate::metrics) fn kept(observed: &Observed, out: &mut Samples) {
    out.services(observed, |s| s.rollout_stats.incidents);
}

pub(in crate::metrics) fn windows(observed: &Observed, out: &mut Samples) {
    for service in &observed.services {
        for (outcome, count) in service.rollout_stats.windows.by_name() {
            out.add([&service.name, outcome], count);
        }
    }
}

pub(in crate::metrics) fn screening(observed: &Observed, out: &mut Samples) {
    out.services(observed, |s| {
        Duration::from_micros(s.rollout_stats.windows.took_us).as_secs_f64()
    });
}
