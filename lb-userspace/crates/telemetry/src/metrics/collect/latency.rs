//! How long clients waited.

use crate::{
    metrics::{
        native::Native,
        row::{Exemplar, Histogram, Samples},
    },
    observed::{Observed, Slowest},
    values::{self, Latencies},
};

/// Where the classic buckets end: powers of two of a second, 122 microseconds to 8 seconds. The
/// kernel's own buckets are finer; `hotlb status` has quantiles by those, and native histograms are
/// them.
const ENDS: [i32; 8] = [-13, -10, -8, -6, -4, -2, 0, 3];

/// What is taken of all that is measured.
type Of = fn(&Latencies) -> &values::Histogram;
/// The slowest of it.
type SlowestOf = fn(&Slowest) -> Option<f64>;

const QUEUE_WAIT: Of = |latency| &latency.queue_wait;
const SERVICE_TIME: Of = |latency| &latency.service_time;
const LIFETIME: Of = |latency| &latency.lifetime;

pub(in crate::metrics) fn queue_wait(observed: &Observed, out: &mut Samples) {
    each(observed, out, QUEUE_WAIT, |slowest| slowest.queue_wait);
}

pub(in crate::metrics) fn service_time(observed: &Observed, out: &mut Samples) {
    each(observed, out, SERVICE_TIME, |slowest| slowest.service_time);
}

pub(in crate::metrics) fn lifetime(observed: &Observed, out: &mut Samples) {
    each(observed, out, LIFETIME, |slowest| slowest.lifetime);
}

pub(in crate::metrics) fn all_queue_wait(observed: &Observed, out: &mut Samples) {
    all(observed, out, QUEUE_WAIT);
}

pub(in crate::metrics) fn all_service_time(observed: &Observed, out: &mut Samples) {
    all(observed, out, SERVICE_TIME);
}

pub(in crate::metrics) fn all_lifetime(observed: &Observed, out: &mut Samples) {
    all(observed, out, LIFETIME);
}

/// Of generations for which anything was measured.
fn each(observed: &Observed, out: &mut Samples, of: Of, slowest: SlowestOf) {
    out.generations(observed, |generation| {
        let measured = of(generation.latency.as_ref()?);
        let exemplar = generation.slowest.as_ref().and_then(|all| {
            Some(Exemplar {
                trace: all.trace.clone(),
                value: slowest(all)?,
                at_ms: None,
            })
        });
        (measured.count() > 0).then(|| histogram(measured, exemplar))
    });
}

/// Of services for which anything was measured.
fn all(observed: &Observed, out: &mut Samples, of: Of) {
    for service in &observed.services {
        let measured = of(&service.latency);
        if measured.count() > 0 {
            out.add([&service.name], histogram(measured, None));
        }
    }
}

fn histogram(measured: &values::Histogram, exemplar: Option<Exemplar>) -> Histogram {
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
    let place = |exemplar: &Exemplar| buckets.iter().position(|(end, _)| exemplar.value <= *end);
    let exemplar = exemplar.and_then(|exemplar| Some((place(&exemplar)?, exemplar)));
    Histogram {
        exemplars: exemplar.into_iter().collect(),
        buckets,
        sum: measured.sum().as_secs_f64(),
        native: Some(Native::of(measured)),
    }
}
