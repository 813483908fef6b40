//! How many connections each listener has, which is what `least` chooses by.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use aya::maps::MapData;
use hotlb_sys::{bpf, mapped::MappedCells};
use lb_common::{SLOTS, names};

use super::{DatapathError, group::Registered, pins::Pins};

/// The gauges, and the storage that says which gauge a connection is counted in.
#[derive(Debug)]
pub(super) struct Loads {
    cells: MappedCells,
    storage: MapData,
}

impl Loads {
    pub(super) fn open(pins: &Pins) -> Result<Self, DatapathError> {
        let map = |name: &'static str| {
            MapData::from_pin(pins.map(name)).map_err(DatapathError::map(name))
        };
        Ok(Self {
            cells: MappedCells::new(map(names::LOADS)?.fd(), SLOTS as usize)
                .map_err(DatapathError::system("map the listeners' loads"))?,
            storage: map(names::WORKER)?,
        })
    }

    /// Open connections that came through the listener at `slot`, in whatever group of the
    /// service: those that were made since it is counted.
    pub(super) fn at(&self, slot: u32) -> u64 {
        self.cells.load(slot as usize)
    }

    /// Has the connections of these listeners counted from now on, or not any more. Of one alone
    /// nothing is counted: there is nothing to choose, and it would cost 3 % of its connections.
    pub(super) fn count(
        &self,
        wanted: bool,
        registered: &Registered,
        sockets: &BTreeMap<u64, OwnedFd>,
    ) -> Result<(), DatapathError> {
        let wanted = wanted && registered.steered.len() > 1;
        for (cookie, &slot) in &registered.steered {
            let Some(socket) = sockets.get(cookie) else {
                continue;
            };
            let storage = self.storage.fd().as_fd();
            let done = if wanted {
                bpf::give_storage(storage, socket, [u64::from(slot)])
            } else {
                bpf::take_storage(storage, socket)
            };
            match done.map_err(|error| error.kind()) {
                // It had it already, or never had it.
                Ok(()) | Err(io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {}
                Err(kind) => {
                    return Err(DatapathError::Slot {
                        cookie: *cookie,
                        slot,
                        source: kind.into(),
                    });
                }
            }
        }
        Ok(())
    }
}
