//! Listeners that have no slot yet, and what programs go by meanwhile.

use std::{
    net::SocketAddr,
    os::fd::{AsFd as _, OwnedFd},
    sync::{Mutex, MutexGuard, PoisonError},
};

use aya::maps::{HashMap, Map, MapData, SockHash};
use hotlb_sys::{bpf, mapped::MappedCells};
use lb_common::{FreshKey, GenerationId, ListenKey, SEATS, names};

use super::{error::DatapathError, pins::Pins};

/// What `track` and `steer` know of listeners without slots.
pub(super) struct Reloads {
    fresh: Mutex<Fresh>,
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
            fresh: Mutex::new(Fresh {
                sockets: SockHash::try_from(Map::SockHash(map(names::FRESH)?))
                    .map_err(DatapathError::map(names::FRESH))?,
                cookies: map(names::FRESH_COOKIES)
                    .ok()
                    .and_then(|map| HashMap::try_from(Map::HashMap(map)).ok()),
            }),
            closings: MappedCells::new(map(names::CLOSINGS)?.fd(), SEATS as usize)
                .map_err(DatapathError::system("map when listeners closed"))?,
            transparent: map(names::TRANSPARENT)?,
        })
    }

    fn fresh(&self) -> MutexGuard<'_, Fresh> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The generation has no listeners any more.
    pub(super) fn forget(&self, generation: GenerationId) {
        self.fresh()
            .forget_all(|key| key.first() == Some(&generation.raw()));
    }

    /// The listeners of the generation at `address` get slots now: none is to be found without one.
    pub(super) fn forget_at(&self, generation: GenerationId, address: SocketAddr) {
        let key = FreshKey {
            generation: generation.raw(),
            address: ListenKey::new(address.ip(), address.port()),
        };
        self.fresh().forget(&key.to_words());
    }

    /// The same for whatever generation they were noted.
    pub(super) fn forget_all_at(&self, address: SocketAddr) {
        let address = ListenKey::new(address.ip(), address.port()).to_words();
        self.fresh().forget_all(|key| key.ends_with(&address));
    }

    /// Has every connection of a transparent listener counted, whatever its port.
    pub(super) fn count_transparent(&self, listener: &OwnedFd) -> Result<(), DatapathError> {
        let given = bpf::give_storage(self.transparent.fd().as_fd(), listener, [1]);
        match given {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                Err(DatapathError::system("mark a transparent listener")(error))
            }
            _ => Ok(()),
        }
    }

    /// Nothing is known of the seat.
    pub(super) fn clear(&self, generation: GenerationId) {
        self.closings.store(generation.seat() as usize, 0);
    }
}

type Key = [u32; FreshKey::WORDS];

/// The listeners without slots, and which of them still listen.
struct Fresh {
    sockets: SockHash<MapData, Key>,
    /// Not where former programs were kept that do not have it.
    cookies: Option<HashMap<MapData, Key, u64>>,
}

impl Fresh {
    fn forget(&mut self, key: &Key) {
        // They fail where none is, as for most.
        let _none = self.sockets.remove(key);
        if let Some(cookies) = &mut self.cookies {
            let _none = cookies.remove(key);
        }
    }

    fn forget_all(&mut self, which: impl Fn(&Key) -> bool) {
        let cookies = self.cookies.iter().flat_map(HashMap::keys);
        let keys = self.sockets.keys().chain(cookies);
        let there: Vec<_> = keys.flatten().filter(which).collect();
        for key in there {
            self.forget(&key);
        }
    }
}
