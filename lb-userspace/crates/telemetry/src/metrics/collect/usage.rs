//! What generations use. A value that cannot be had has no sample, and
//! `hotlb_metric_unavailable` says why.

use crate::{
    generation::usage::{Reading, Unavailable, Usage},
    metrics::row::Samples,
    observed::Observed,
};

/// The names in the table, for the label `metric`.
pub(in crate::metrics) const CPU: &str = "hotlb_generation_cpu_seconds";
pub(in crate::metrics) const MEMORY: &str = "hotlb_generation_memory_bytes";
pub(in crate::metrics) const MEMORY_PEAK: &str = "hotlb_generation_memory_peak_bytes";
pub(in crate::metrics) const PRESSURE: &str = "hotlb_generation_pressure_seconds";

pub(in crate::metrics) fn cpu(observed: &Observed, out: &mut Samples) {
    each(observed, |service, generation, usage| {
        if let Ok(cpu) = usage.cpu {
            let source = cpu.source.name();
            let labels = |mode| [service, generation, mode, source];
            out.add(labels("user"), cpu.value.user);
            out.add(labels("system"), cpu.value.system);
        }
    });
}

pub(in crate::metrics) fn memory(observed: &Observed, out: &mut Samples) {
    bytes(observed, out, |usage| usage.memory);
}

pub(in crate::metrics) fn memory_peak(observed: &Observed, out: &mut Samples) {
    bytes(observed, out, |usage| usage.memory_peak);
}

fn bytes(observed: &Observed, out: &mut Samples, of: fn(&Usage) -> Reading<u64>) {
    each(observed, |service, generation, usage| {
        if let Ok(bytes) = of(usage) {
            out.add([service, generation, bytes.source.name()], bytes.value);
        }
    });
}

pub(in crate::metrics) fn pressure(observed: &Observed, out: &mut Samples) {
    each(observed, |service, generation, usage| {
        for (resource, reading) in &usage.pressure {
            let Ok(pressure) = reading else { continue };
            let labels = |waiting| [service, generation, resource.name(), waiting];
            out.add(labels("some"), pressure.value.some);
            if let Some(full) = pressure.value.full {
                out.add(labels("full"), full);
            }
        }
    });
}

pub(in crate::metrics) fn processes(observed: &Observed, out: &mut Samples) {
    out.generations(observed, |g| Some(g.usage.as_ref()?.processes));
}

pub(in crate::metrics) fn frozen(observed: &Observed, out: &mut Samples) {
    out.generations(observed, |g| Some(g.usage.as_ref()?.frozen));
}

pub(in crate::metrics) fn unavailable(observed: &Observed, out: &mut Samples) {
    each(observed, |service, generation, usage| {
        for (metric, resource, why) in lacking(usage) {
            out.add([service, generation, metric, resource, why.name()], true);
        }
    });
}

/// The metrics without a value, for a pressure the resource, and why.
fn lacking(usage: &Usage) -> Vec<(&'static str, &'static str, Unavailable)> {
    let plain = [
        (CPU, usage.cpu.err()),
        (MEMORY, usage.memory.err()),
        (MEMORY_PEAK, usage.memory_peak.err()),
    ];
    let plain = plain.into_iter().map(|(metric, why)| (metric, "", why));
    let pressure = usage
        .pressure
        .iter()
        .map(|(resource, reading)| (PRESSURE, resource.name(), reading.err()));
    plain
        .chain(pressure)
        .filter_map(|(metric, resource, why)| Some((metric, resource, why?)))
        .collect()
}

fn each(observed: &Observed, mut with: impl FnMut(&str, &str, &Usage)) {
    for service in &observed.services {
        for generation in &service.generations {
            if let Some(usage) = &generation.usage {
                with(&service.name, &generation.name, usage);
            }
        }
    }
}
