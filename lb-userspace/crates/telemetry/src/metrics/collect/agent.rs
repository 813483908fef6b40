//! The agent itself.

use std::time::Duration;

use crate::{
    metrics::row::{Samples, Value},
    observed::{Observed, OwnProcess},
};

pub(in crate::metrics) fn build_info(_: &Observed, out: &mut Samples) {
    let abi = lb_common::ABI_VERSION.to_string();
    out.add([env!("CARGO_PKG_VERSION"), &abi], true);
}

pub(in crate::metrics) fn journal_writable(observed: &Observed, out: &mut Samples) {
    out.add([], observed.journal_writable);
}

pub(in crate::metrics) fn put_back(observed: &Observed, out: &mut Samples) {
    for support in &observed.supports {
        out.add([support.name], support.restored);
    }
}

pub(in crate::metrics) fn output_dropped(observed: &Observed, out: &mut Samples) {
    for (service, &bytes) in &observed.dropped {
        out.add([service.as_str()], bytes);
    }
}

pub(in crate::metrics) fn missing(observed: &Observed, out: &mut Samples) {
    for support in &observed.supports {
        out.add([support.name], support.is_missing);
    }
}

pub(in crate::metrics) fn traces_dropped(_: &Observed, out: &mut Samples) {
    out.add([], crate::traces::dropped());
}

pub(in crate::metrics) fn cpu(observed: &Observed, out: &mut Samples) {
    own(observed, out, |own| Some(own.cpu.into()));
}

pub(in crate::metrics) fn resident(observed: &Observed, out: &mut Samples) {
    own(observed, out, |own| Some(own.resident.into()));
}

pub(in crate::metrics) fn virtual_memory(observed: &Observed, out: &mut Samples) {
    own(observed, out, |own| Some(own.virtual_memory.into()));
}

pub(in crate::metrics) fn open_fds(observed: &Observed, out: &mut Samples) {
    own(observed, out, |own| Some(own.open_fds.into()));
}

pub(in crate::metrics) fn max_fds(observed: &Observed, out: &mut Samples) {
    own(observed, out, |own| own.max_fds.map(Value::from));
}

pub(in crate::metrics) fn threads(observed: &Observed, out: &mut Samples) {
    own(observed, out, |own| Some(own.threads.into()));
}

pub(in crate::metrics) fn started(observed: &Observed, out: &mut Samples) {
    own(observed, out, |own| {
        Some(Duration::from_secs(own.started).into())
    });
}

fn own(observed: &Observed, out: &mut Samples, value: fn(&OwnProcess) -> Option<Value>) {
    if let Some(value) = observed.process.as_ref().and_then(value) {
        out.add([], value);
    }
}
