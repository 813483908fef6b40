//! What of a service stays as it is for as long as it is open: whoever has it may read it at any moment, without the lock
//! of the state.

use std::{
    collections::{BTreeSet, HashSet},
    sync::atomic::{AtomicBool, Ordering},
};

use lb_common::GenerationId;

use super::{OpenError, VerbError};
use crate::{
    config::{Places, Reserve, ServiceConfig},
    datapath::{DatapathError, ServicePath},
    generation::established::{self, Ports},
    store::Journal,
    sys::{cgroup::Cgroup, environment::Environment, mounts, netns::Netns},
};

/// A part of a service reads the context as if it were its own.
macro_rules! context_of {
    ($part:ty) => {
        impl std::ops::Deref for $part {
            type Target = $crate::agent::service::Context;

            fn deref(&self) -> &Self::Target {
                &self.context
            }
        }
    };
}

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

    /// Where a generation's processes live.
    pub(super) fn generation_cgroup(&self, id: GenerationId, name: &str) -> Cgroup {
        self.cgroup.child(&format!("{}-{name}", id.raw()))
    }

    /// The processes of a cgroup outside the service's may bind its ports, too, where those are reserved.
    pub(super) fn allow(&self, cgroup: &Cgroup) -> Result<(), DatapathError> {
        if self.config.reserve == Reserve::Ports {
            self.path.allow(cgroup)?;
        }
        Ok(())
    }

    /// Undoes [`Context::allow`].
    pub(super) fn forbid(&self, cgroup: &Cgroup) {
        if self.config.reserve == Reserve::Ports && !cgroup.path().starts_with(self.cgroup.path()) {
            self.path.forbid(cgroup);
        }
    }

    /// Keeps the service's ports for its own processes on the whole host, if it is configured so.
    pub(super) fn reserve(&self) -> Result<(), OpenError> {
        if self.config.reserve == Reserve::Nothing {
            self.path.give_up_reservation();
            return Ok(());
        }
        let refused = |reason: String| OpenError::Reserve {
            service: self.config.name.clone(),
            reason,
        };
        let network = self.netns.cookie().map_err(|e| refused(e.to_string()))?;
        let root = mounts::cgroup2().map_err(|e| refused(e.to_string()))?;
        let reserved = self.path.reserve(&root, network, &self.cgroup);
        reserved.map_err(|e| refused(e.to_string()))
    }

    /// The agent's own environment, without what is meant for the agent.
    pub(super) fn base_env(&self) -> Environment {
        let mut env = Environment::own();
        env.retain(|name| !is_for_the_agent(name.as_encoded_bytes()));
        env.set("HOTLB_SERVICE", self.name());
        if let Some(user) = &self.config.identity.name {
            env.set("USER", user);
            env.set("LOGNAME", user);
        }
        env
    }

    /// The environment of what the agent runs for itself: its own, without what is meant for the
    /// agent, and the service's name.
    pub(super) fn hook_env(&self) -> Environment {
        let mut env = self.base_env();
        // Those of the service's user; but this is run as the agent's.
        for name in ["USER", "LOGNAME"] {
            env.unset(name);
            env.extend(std::env::var_os(name).map(|value| (name, value)));
        }
        env
    }

    /// What tells a server of the generation which ids to give to QUIC connections.
    pub(super) fn quic_server_id(&self, id: GenerationId) -> Option<(String, String)> {
        self.config.datagrams.as_ref()?.server_id(id)
    }

    /// Whether every group has a listener of the generation.
    pub(super) fn listens(&self, id: GenerationId) -> bool {
        self.path
            .all_groups()
            .all(|group| group.live_listeners(id) > 0)
    }

    /// Cookies of the open connections that came through the cgroup's listeners on the service's
    /// ports.
    pub(super) fn open_connections(&self, cgroup: &Cgroup) -> Result<BTreeSet<u64>, VerbError> {
        let found = established::find(cgroup, &self.ports(), false)?;
        Ok(found
            .into_iter()
            .map(|connection| connection.cookie)
            .collect())
    }
}

/// Whether a variable is meant for the agent, not for what it starts.
fn is_for_the_agent(name: &[u8]) -> bool {
    name.starts_with(b"HOTLB_")
        || name.starts_with(b"LISTEN_")
        || matches!(name, b"NOTIFY_SOCKET" | b"WATCHDOG_USEC" | b"WATCHDOG_PID")
}
