//! How many connections are open, seat by seat.

use std::sync::atomic::{AtomicU64, Ordering};

use aya::maps::MapData;
use hotlb_sys::mapped::MappedCells;
use lb_common::{GenerationId, SEATS, names};

use super::{error::DatapathError, pins::Pins};

/// The open connections of each seat; the parking listeners' are at seat 0.
pub(super) struct Live {
    /// What `track` counts.
    cells: MappedCells,
    /// Those that are older than their generation's `track`.
    earlier: [AtomicU64; SEATS as usize],
}

impl Live {
    pub(super) fn open(pins: &Pins) -> Result<Self, DatapathError> {
        let map = MapData::from_pin(pins.map(names::LIVE));
        let map = map.map_err(DatapathError::map(names::LIVE))?;
        Ok(Self {
            cells: MappedCells::new(map.fd(), SEATS as usize)
                .map_err(DatapathError::system("map the live counts"))?,
            earlier: std::array::from_fn(|_seat| AtomicU64::new(0)),
        })
    }

    /// What `track` counts at the seat.
    pub(super) fn tracked(&self, seat: u32) -> u64 {
        self.cells.load(seat as usize)
    }

    /// Those that `track` has not seen the beginning of.
    pub(super) fn earlier(&self, seat: u32) -> u64 {
        let earlier = self.earlier.get(seat as usize);
        earlier.map_or(0, |earlier| earlier.load(Ordering::Acquire))
    }

    pub(super) fn set_earlier(&self, generation: GenerationId, connections: u64) {
        if let Some(earlier) = self.earlier.get(generation.seat() as usize) {
            earlier.store(connections, Ordering::Release);
        }
    }

    /// Nobody is parked: sets that count to 0, and says by how much it was wrong.
    pub(super) fn forget_parked(&self) -> i64 {
        let live = self.cells.load(0);
        self.cells.add(0, live.wrapping_neg());
        live.cast_signed()
    }

    /// So many of the generation's have ended without `track` being told.
    pub(super) fn forget_ended(&self, generation: GenerationId, ended: u64) {
        let seat = generation.seat() as usize;
        self.cells.add(seat, ended.wrapping_neg());
    }

    /// Nobody has connections at the generation's seat.
    pub(super) fn clear(&self, generation: GenerationId) {
        self.cells.store(generation.seat() as usize, 0);
        self.set_earlier(generation, 0);
    }
}
