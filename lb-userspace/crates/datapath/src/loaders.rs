//! Loaders of the object, kept from one service to the next.
//!
//! aya reads all of the kernel's types whenever a loader is made: some 30 ms and 20 MB each time.
//! The object has no relocations against them (Rust's compiler cannot emit any), so they are given
//! up at once and the loader is used again and again.

use std::{
    collections::HashSet,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use aya::EbpfLoader;
use hotlb_sys::heap::GivesBack;
use lb_common::names;

use super::{kernel_fields, pins::Pins, watched::OfAll};

/// As many are kept as services are opened at once.
const KEPT: usize = 8;

static IDLE: Mutex<Vec<EbpfLoader<'static>>> = Mutex::new(Vec::new());

/// What the programs of one load have as constants. Every load sets all of them, since the loader
/// remembers those of the load before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Constants {
    /// Whose connections `track` counts; 0: the parking listeners'.
    pub(super) generation: u32,
    /// 1: `received` and `sent` look at the connections of all services.
    pub(super) for_all: u32,
    /// Else: the ports at which `received` and `sent` look.
    pub(super) port_bits: u64,
    /// The network namespace of whose clients `refused` counts those.
    pub(super) namespace: u32,
    /// How many flows find room, where the table of flows is made.
    pub(super) flows: u32,
    /// The same of ids of QUIC's connections.
    pub(super) connection_ids: u32,
}

/// Has `load` done by a loader that finds the service's maps in `pins` and the group's own in
/// `group`, or makes them there.
pub(super) fn with<T>(
    pins: &Pins,
    group: &Path,
    constants: Constants,
    load: impl FnOnce(&mut EbpfLoader<'static>) -> T,
) -> T {
    let all = OfAll::beside(pins);
    // Held until the maps that all services share are made.
    let _making = all.make();
    let mut loader = take();
    for name in names::SHARED {
        loader.map_pin_path(name, pins.map(name));
    }
    for name in names::PER_GROUP {
        loader.map_pin_path(name, group.join(name));
    }
    for name in names::OF_ALL {
        loader.map_pin_path(name, all.pin(name));
    }
    constants.set(&mut loader);
    let loaded = load(&mut loader);
    let mut idle = idle();
    if idle.len() < KEPT {
        idle.push(loader);
    }
    loaded
}

impl Constants {
    fn set(self, loader: &mut EbpfLoader<'static>) {
        let own = self.kept();
        loader.map_max_entries(names::FLOWS, own.flows.max(1));
        loader.map_max_entries(names::CONNECTION_IDS, own.connection_ids.max(1));
        loader.override_global(names::GENERATION, &own.generation, true);
        loader.override_global(names::FOR_ALL, &own.for_all, true);
        loader.override_global(names::PORT_BITS, &own.port_bits, true);
        loader.override_global(names::OWN_NAMESPACE, &own.namespace, true);
        // Without the fields `track` counts connections, and not what they were lost by.
        if let Ok(fields) = kernel_fields::tcp_fields() {
            for (name, at) in fields {
                loader.override_global(name, at, true);
            }
        }
        loader.override_global(names::TASK_FLAGS.0, kernel_fields::task_flags(), true);
        if let Ok(fields) = kernel_fields::packet_fields() {
            fields.set(loader);
        }
    }

    /// The same, for ever: a loader that is kept borrows what it is given. There are few of them:
    /// generations of all services have the same small numbers.
    fn kept(self) -> &'static Self {
        static KNOWN: Mutex<Option<HashSet<&'static Constants>>> = Mutex::new(None);
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get_or_insert_default();
        if let Some(found) = known.get(&self) {
            return found;
        }
        let kept: &'static Self = Box::leak(Box::new(self));
        known.insert(kept);
        kept
    }
}

fn take() -> EbpfLoader<'static> {
    let kept = idle().pop();
    if let Some(loader) = kept {
        return loader;
    }
    let _after = GivesBack::at_the_end();
    let mut loader = EbpfLoader::new();
    loader.btf(None);
    loader
}

fn idle() -> MutexGuard<'static, Vec<EbpfLoader<'static>>> {
    IDLE.lock().unwrap_or_else(PoisonError::into_inner)
}
