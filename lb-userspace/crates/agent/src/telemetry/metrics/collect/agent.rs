//! The agent itself.

use std::time::Duration;

use crate::{
    agent::{OwnProcess, footing, observed::Observed},
    telemetry::metrics::row::{Samples, Value},
};

pub(in crate::telemetry::metrics) fn build_info(_: &Observed, out: &mut Samples) {
    let abi = lb_common::ABI_VERSION.to_string();
    out.add([env!("CARGO_PKG_VERSION"), &abi], true);
}

pub(in crate::telemetry::metrics) fn journal_writable(observed: &Observed, out: &mut Samples) {
    out.add([], observed.journal_writable);
}

pub(in crate::telemetry::metrics) fn put_back(_: &Observed, out: &mut Samples) {
    for (what, restored, _) in footing::counts() {
        out.add([what], restored);
    }
}

pub(in crate::telemetry::metrics) fn output_dropped(observed: &Observed, out: &mut Samples) {
    for (service, &bytes) in &observed.dropped {
        out.add([service.as_str()], bytes);
    }
}

pub(in crate::telemetry::metrics) fn missing(_: &Observed, out: &mut Samples) {
    for (what, _, is_missing) in footing::counts() {
        out.add([what], is_missing);
    }
}

pub(in crate::telemetry::metrics) fn traces_dropped(_: &Observed, out: &mut Samples) {
    out.add([], crate::telemetry::traces::dropped());
}

pub(in crate::telemetry::metrics) fn cpu(observed: &Observed, out: &mut Samples) {
    own(observed, out, |own| Some(own.cpu.into()));
}

pub(in crate::telemetry::metrics) fn resident(observed: &Observed, out: &mut Samples) {
    own(observed, out, |own| Some(own.resident.into()));
}

pub(in crate::telemetry::metrics) fn virtual_memory(observed: &Observed, out: &mut Samples) {
    own(observed, out, |own| Some(own.virtual_memory.into()));
}

pub(in crate::telemetry::metrics) fn open_fds(observed: &Observed, out: &mut Samples) {
    own(observed, out, |own| Some(own.open_fds.into()));
}

pub(in crate::telemetry::metrics) fn max_fds(observed: &Observed, out: &mut Samples) {
    own(observed, out, |own| own.max_fds.map(Value::from));
}

pub(in crate::telemetry::metrics) fn threads(observed: &Observed, out: &mut Samples) {
    own(observed, out, |own| Some(own.threads.into()));
}

pub(in crate::telemetry::metrics) fn started(observed: &Observed, out: &mut Samples) {
    own(observed, out, |own| {
        Some(Duration::from_secs(own.started).into())
    });
}

fn own(observed: &Observed, out: &mut Samples, value: fn(&OwnProcess) -> Option<Value>) {
    if let Some(value) = observed.process.as_ref().and_then(value) {
        out.add([], value);
    }
}
