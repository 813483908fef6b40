//! What of a service stays as it is for as long as it is open: whoever has it may read it at any moment, without the lock
//! of the state.

use std::{
    collections::{BTreeSet, HashSet},
    sync::atomic::{AtomicBool, Ordering},
};

use crate::{
    config::{Places, ServiceConfig},
    datapath::ServicePath,
    generation::established::{self, Ports},
    store::Journal,
    sys::{cgroup::Cgroup, netns::Netns},
};

/// What a service has around it. Its fields are read, and never changed.
#[derive(Debug)]
pub struct Context {
    pub(super) config: ServiceConfig,
    pub(super) places: Places,
    pub(super) cgroup: Cgroup,
    /// Where its sockets are.
    pub(super) netns: Netns,
    /// Its part of the kernel; the word has a writer of its own.
    pub(super) path: ServicePath,
    /// What rollouts are about to do.
    pub(super) journal: Journal,
    /// Why it is not measured how long clients wait, although it should be.
    pub(super) unmeasured: Option<String>,
    /// Why clients that are refused are not counted.
    pub(super) uncounted: Option<String>,
    /// Whether any listener of it takes clients of other addresses: once it does, that is true for good.
    transparent: AtomicBool,
}

impl Context {
    /// That of a service whose part of the kernel is open; `journal` is its own handle.
    pub(super) fn new(
        (config, places): (ServiceConfig, Places),
        journal: Journal,
        cgroup: Cgroup,
        netns: Netns,
        path: ServicePath,
    ) -> Self {
        let measured = path.measure_latency(config.latency, &netns);
        let counted = path.count_refused(&netns);
        path.choose_by(config.workers.resolve());
        Self {
            unmeasured: measured.err().map(|error| error.to_string()),
            uncounted: counted.err().map(|error| error.to_string()),
            transparent: AtomicBool::new(false),
            config,
            places,
            cgroup,
            netns,
            path,
            journal,
        }
    }

    /// The service's name.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Its configuration.
    pub const fn config(&self) -> &ServiceConfig {
        &self.config
    }

    /// Where its rollouts are written down.
    pub const fn journal(&self) -> &Journal {
        &self.journal
    }

    /// One of its listeners takes clients of other addresses.
    pub(super) fn note_transparent(&self) {
        self.transparent.store(true, Ordering::Relaxed);
    }

    /// The ports of the service.
    pub(super) fn ports(&self) -> Ports {
        let listen = self.config.listen.iter();
        let ports: BTreeSet<u16> = listen.map(std::net::SocketAddr::port).collect();
        Ports {
            netns: self.netns.clone(),
            ports: ports.into_iter().collect(),
            transparent: self.transparent.load(Ordering::Relaxed),
        }
    }

    /// Cookies of all connections of the service; none when they cannot be listed.
    pub(super) fn all_connections(&self) -> HashSet<u64> {
        established::cookies(&self.ports()).unwrap_or_default()
    }
}
