//! How the steering program decided.

use crate::{metrics::row::Samples, observed::Observed};

pub(in crate::metrics) fn calls(observed: &Observed, out: &mut Samples) {
    out.services(observed, |s| s.steering.calls);
}

pub(in crate::metrics) fn foreign_programs(observed: &Observed, out: &mut Samples) {
    out.services(observed, |s| s.foreign_programs);
}

pub(in crate::metrics) fn stray_sockets(observed: &Observed, out: &mut Samples) {
    out.services(observed, |s| s.stray_sockets);
}

pub(in crate::metrics) fn programs(observed: &Observed, out: &mut Samples) {
    for service in &observed.services {
        let programs = &service.programs;
        let object = programs.object.as_deref().unwrap_or_default();
        out.add([&service.name, object], programs.own);
    }
}

pub(in crate::metrics) fn exits(observed: &Observed, out: &mut Samples) {
    for service in &observed.services {
        let steering = &service.steering;
        for (migrating, exits) in [("false", &steering.exits), ("true", &steering.migrated)] {
            for (exit, &count) in exits {
                out.add([&service.name, exit, migrating], count);
            }
        }
    }
}
