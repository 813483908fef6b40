//! How long clients waited.

use crate::{
    agent::observed::{Latencies, Observed},
    datapath,
    telemetry::metrics::row::{Histogram, Samples},
};

/// Where the classic buckets end: powers of two of a second, 122 microseconds to 8 seconds. The
/// kernel's own buckets are finer; `hotlb status` has quantiles by those, and native histograms are
/// them.
const ENDS: [i32; 8] = [-13, -10, -8, -6, -4, -2, 0, 3];

pub(in crate::telemetry::metrics) fn queue_wait(observed: &Observed, out: &mut Samples) {
    each(observed, out, |latency| &latency.queue_wait);
}

pub(in crate::telemetry::metrics) fn service_time(observed: &Observed, out: &mut Samples) {
    each(observed, out, |latency| &latency.service_time);
}

pub(in crate::telemetry::metrics) fn lifetime(observed: &Observed, out: &mut Samples) {
    each(observed, out, |latency| &latency.lifetime);
}

/// Of generations for which anything was measured.
fn each(observed: &Observed, out: &mut Samples, of: fn(&Latencies) -> &datapath::Histogram) {
    out.generations(observed, |generation| {
        let measured = of(generation.latency.as_ref()?);
        (measured.count() > 0).then(|| classic(measured))
    });
}

fn classic(measured: &datapath::Histogram) -> Histogram {
    let mut below = 0;
    let mut buckets = Vec::with_capacity(ENDS.len() + 1);
    for end in ENDS {
        let until = measured.until(end);
        // Counted meanwhile on another CPU, a value may be in one reading and not in the other.
        buckets.push((f64::from(end).exp2(), until.saturating_sub(below)));
        below = until;
    }
    let above = measured.count().saturating_sub(below);
    buckets.push((f64::INFINITY, above));
    Histogram {
        buckets,
        sum: measured.sum().as_secs_f64(),
    }
}
