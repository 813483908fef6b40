//! How long clients waited.

use crate::{
    agent::observed::{Latencies, Observed},
    datapath,
    telemetry::metrics::row::{Histogram, Samples},
};

/// Where the buckets end: powers of two of 1,024 ns, 131 microseconds to 8.6 seconds. The kernel's
/// own buckets are finer; `hotlb status` has quantiles by those.
const ENDS: [u32; 8] = [7, 10, 12, 14, 16, 18, 20, 23];

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
        let until = measured.below(end);
        // Counted meanwhile on another CPU, a value may be in one reading and not in the other.
        buckets.push((seconds(end), until.saturating_sub(below)));
        below = until;
    }
    let above = measured.count().saturating_sub(below);
    buckets.push((f64::INFINITY, above));
    Histogram {
        buckets,
        sum: measured.sum().as_secs_f64(),
    }
}

fn seconds(end: u32) -> f64 {
    std::time::Duration::from_nanos(1 << (end + 10)).as_secs_f64()
}
