//! UDP: how `steer_udp` decided, and the flows there are. Services without UDP have no sample.

use crate::{api::wire::DatagramStatus, metrics::row::Samples, observed::Observed};

pub(in crate::metrics) fn calls(observed: &Observed, out: &mut Samples) {
    each(observed, out, |udp| udp.calls);
}

pub(in crate::metrics) fn exits(observed: &Observed, out: &mut Samples) {
    for service in &observed.services {
        for (exit, &count) in service.udp.iter().flat_map(|udp| &udp.exits) {
            out.add([&service.name, exit], count);
        }
    }
}

pub(in crate::metrics) fn flows(observed: &Observed, out: &mut Samples) {
    out.generations(observed, |g| g.flows);
}

pub(in crate::metrics) fn table(observed: &Observed, out: &mut Samples) {
    each(observed, out, |udp| u64::from(udp.table));
}

pub(in crate::metrics) fn begun(observed: &Observed, out: &mut Samples) {
    each(observed, out, |udp| udp.begun);
}

pub(in crate::metrics) fn moved(observed: &Observed, out: &mut Samples) {
    each(observed, out, |udp| udp.moved);
}

pub(in crate::metrics) fn readdressed(observed: &Observed, out: &mut Samples) {
    each(observed, out, |udp| udp.readdressed);
}

pub(in crate::metrics) fn evicted(observed: &Observed, out: &mut Samples) {
    each(observed, out, |udp| udp.evicted + udp.unwritten);
}

fn each(observed: &Observed, out: &mut Samples, value: fn(&DatagramStatus) -> u64) {
    for service in &observed.services {
        if let Some(udp) = &service.udp {
            out.add([&service.name], value(udp));
        }
    }
}
