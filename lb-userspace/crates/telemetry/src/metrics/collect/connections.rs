//! Connections, by generation and in all.

use crate::{metrics::row::Samples, observed::Observed};

pub(in crate::metrics) fn opened(observed: &Observed, out: &mut Samples) {
    out.generations(observed, |g| Some(g.connections.opened));
}

pub(in crate::metrics) fn closed(observed: &Observed, out: &mut Samples) {
    out.generations(observed, |g| Some(g.connections.closed));
}

pub(in crate::metrics) fn aborted(observed: &Observed, out: &mut Samples) {
    out.generations(observed, |g| Some(g.connections.aborted));
}

pub(in crate::metrics) fn moved_in(observed: &Observed, out: &mut Samples) {
    out.generations(observed, |g| Some(g.connections.moved_in));
}

pub(in crate::metrics) fn moved_out(observed: &Observed, out: &mut Samples) {
    out.generations(observed, |g| Some(g.connections.moved_out));
}

pub(in crate::metrics) fn live(observed: &Observed, out: &mut Samples) {
    out.generations(observed, |g| Some(g.connections.live));
}

pub(in crate::metrics) fn all_opened(observed: &Observed, out: &mut Samples) {
    out.services(observed, |s| s.totals.opened);
}

pub(in crate::metrics) fn all_closed(observed: &Observed, out: &mut Samples) {
    out.services(observed, |s| s.totals.closed);
}

pub(in crate::metrics) fn all_aborted(observed: &Observed, out: &mut Samples) {
    out.services(observed, |s| s.totals.aborted);
}

pub(in crate::metrics) fn parked(observed: &Observed, out: &mut Samples) {
    out.services(observed, |s| s.parked);
}

pub(in crate::metrics) fn lost(observed: &Observed, out: &mut Samples) {
    for service in &observed.services {
        for generation in &service.generations {
            for (loss, count) in generation.connections.lost.by_name() {
                out.add([&service.name, &generation.name, loss], count);
            }
        }
    }
}

pub(in crate::metrics) fn all_lost(observed: &Observed, out: &mut Samples) {
    for service in &observed.services {
        for (loss, count) in service.totals.lost.by_name() {
            out.add([&service.name, loss], count);
        }
    }
}

pub(in crate::metrics) fn received_bytes(observed: &Observed, out: &mut Samples) {
    out.generations(observed, |g| Some(g.connections.received_bytes));
}

pub(in crate::metrics) fn sent_bytes(observed: &Observed, out: &mut Samples) {
    out.generations(observed, |g| Some(g.connections.sent_bytes));
}

pub(in crate::metrics) fn all_received_bytes(observed: &Observed, out: &mut Samples) {
    out.services(observed, |s| s.totals.received_bytes);
}

pub(in crate::metrics) fn all_sent_bytes(observed: &Observed, out: &mut Samples) {
    out.services(observed, |s| s.totals.sent_bytes);
}
