//! Listeners that have no slot yet, and what programs go by meanwhile.

use std::{
    net::SocketAddr,
    os::fd::{AsFd as _, OwnedFd},
    sync::{Mutex, PoisonError},
};

use aya::maps::{Map, MapData, SockHash};
use hotlb_sys::{bpf, clock, mapped::MappedCells};
use lb_common::{FreshKey, GenerationId, ListenKey, SEATS, names, steering};

use super::{error::DatapathError, pins::Pins, service::ServicePath};

/// What `track` and `steer` know of listeners without slots.
pub(super) struct Reloads {
    fresh: Mutex<SockHash<MapData, [u32; FreshKey::WORDS]>>,
    closings: MappedCells,
    transparent: MapData,
}

impl Reloads {
    /// Opens the service's pins. Those that an earlier release made do not have them.
    pub(super) fn open(pins: &Pins) -> Result<Self, DatapathError> {
        let map = |name: &'static str| {
            MapData::from_pin(pins.map(name)).map_err(DatapathError::map(name))
        };
        Ok(Self {
            fresh: Mutex::new(
                SockHash::try_from(Map::SockHash(map(names::FRESH)?))
                    .map_err(DatapathError::map(names::FRESH))?,
            ),
            closings: MappedCells::new(map(names::CLOSINGS)?.fd(), SEATS as usize)
                .map_err(DatapathError::system("map when listeners closed"))?,
            transparent: map(names::TRANSPARENT)?,
        })
    }

    /// Nothing is known of the seat.
    pub(super) fn clear(&self, generation: GenerationId) {
        self.closings.store(generation.seat() as usize, 0);
    }
}

impl ServicePath {
    /// The agent runs: clients may wait for what only it can do.
    pub fn beat(&self) {
        let now = u64::try_from(clock::monotonic().as_nanos()).unwrap_or(u64::MAX);
        self.steering.store(steering::BEAT, now);
    }

    /// The listeners of the generation at `address` get slots now: none is to be found without one.
    pub(super) fn forget_fresh(&self, generation: GenerationId, address: SocketAddr) {
        let Some(reloads) = &self.reloads else {
            return;
        };
        let key = FreshKey {
            generation: generation.raw(),
            address: ListenKey::new(address.ip(), address.port()),
        };
        let mut fresh = reloads.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        // It fails where none is, as for most.
        let _none = fresh.remove(&key.to_words());
    }

    /// The same for whatever generation they were noted.
    pub(super) fn forget_fresh_at(&self, address: SocketAddr) {
        let Some(reloads) = &self.reloads else {
            return;
        };
        let address = ListenKey::new(address.ip(), address.port()).to_words();
        let mut fresh = reloads.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = fresh.keys().flatten();
        let there: Vec<_> = keys.filter(|key| key.ends_with(&address)).collect();
        for key in there {
            // It has closed meanwhile, or it is out now.
            let _gone = fresh.remove(&key);
        }
    }

    /// Has every connection of a transparent listener counted, whatever its port.
    ///
    /// # Errors
    ///
    /// When the kernel refuses it.
    pub fn count_transparent(&self, listener: &OwnedFd) -> Result<(), DatapathError> {
        let Some(reloads) = &self.reloads else {
            return Ok(());
        };
        let given = bpf::give_storage(reloads.transparent.fd().as_fd(), listener, [1]);
        match given {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                Err(DatapathError::system("mark a transparent listener")(error))
            }
            _ => Ok(()),
        }
    }
}
