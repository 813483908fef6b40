//! One reuseport group: its socket array, its rows, its instance of `steer`.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    ops::Range,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
};

use aya::{
    maps::MapData,
    programs::{SkReuseport, sk_reuseport::SkReuseportAttachType},
};
use hotlb_sys::{bpf, mapped::MappedCells};
use lb_common::{GenerationId, PARKING_SLOT, SEATS, SLOTS, SeatRow, names};

use super::{error::DatapathError, pins::Pins};

/// Room kept behind a generation's listeners for those it opens later (a reload that adds
/// workers), since a listener keeps its slot and a row names one range.
const HEADROOM: u32 = 8;

/// A reuseport group that `steer` decides about.
#[derive(Debug)]
pub struct Group {
    address: SocketAddr,
    sockets: MapData,
    rows: MappedCells,
    program: &'static str,
    steer: SkReuseport,
}

/// What a registration changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registered {
    /// Listeners that have a slot now, by cookie.
    pub steered: BTreeMap<u64, u32>,
    /// Listeners for which the generation's range had no room.
    pub left_out: Vec<u64>,
}

impl Group {
    /// Opens the pins of the group at `address`.
    pub(super) fn open(pins: &Pins, address: SocketAddr) -> Result<Self, DatapathError> {
        Self::open_in(&pins.group(address), address, names::STEER)
    }

    /// Opens the pins of the group of UDP sockets at `address`.
    pub(super) fn open_datagrams(pins: &Pins, address: SocketAddr) -> Result<Self, DatapathError> {
        Self::open_in(&pins.datagram_group(address), address, names::STEER_UDP)
    }

    fn open_in(
        dir: &Path,
        address: SocketAddr,
        program: &'static str,
    ) -> Result<Self, DatapathError> {
        let map = |name: &'static str| {
            MapData::from_pin(dir.join(name)).map_err(DatapathError::map(name))
        };
        let rows = MappedCells::new(map(names::ROWS)?.fd(), SEATS as usize)
            .map_err(DatapathError::system("map the group's rows"))?;
        Ok(Self {
            address,
            sockets: map(names::SOCKETS)?,
            rows,
            program,
            steer: open_steer(dir, program)?,
        })
    }

    /// The address the group listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Has `steer` decide for the group `socket` is in. Replaces any program another process
    /// attached to it.
    pub fn attach(&self, socket: impl std::os::fd::AsFd) -> Result<(), DatapathError> {
        self.steer
            .attach(socket.as_fd())
            .map_err(DatapathError::program(self.program))
    }

    /// Leaves the group `socket` is in to the kernel's hash again.
    pub fn detach(&self, socket: impl std::os::fd::AsFd) -> Result<(), DatapathError> {
        SkReuseport::detach(socket.as_fd()).map_err(DatapathError::program(self.program))
    }

    /// The id of the program that is to decide.
    pub fn program_id(&self) -> Result<u32, DatapathError> {
        self.steer
            .info()
            .map(|info| info.id())
            .map_err(DatapathError::program(self.program))
    }

    /// The cookies of the sockets that have slots, the parking listener's first.
    pub fn cookies(&self) -> Result<Vec<u64>, DatapathError> {
        let rows = self.other_rows(usize::MAX);
        let slots = rows.flat_map(|row| {
            let first = u32::from(row.first);
            first..first + u32::from(row.count)
        });
        std::iter::once(PARKING_SLOT)
            .chain(slots)
            .filter_map(|slot| self.cookie_at(slot).transpose())
            .collect()
    }

    /// Makes `socket` the parking listener.
    pub fn park(&self, socket: &OwnedFd, cookie: u64) -> Result<(), DatapathError> {
        self.insert(PARKING_SLOT, socket.as_fd(), cookie)
    }

    /// Whether the socket with this cookie is the parking listener.
    pub fn is_parked(&self, cookie: u64) -> bool {
        matches!(self.cookie_at(PARKING_SLOT), Ok(Some(parked)) if parked == cookie)
    }

    /// Gives each of the generation's listeners a slot, and forgets those that are gone.
    pub(super) fn register(
        &self,
        generation: GenerationId,
        listeners: &BTreeMap<u64, OwnedFd>,
    ) -> Result<Registered, DatapathError> {
        let seat = generation.seat() as usize;
        let row = SeatRow::from_bits(self.rows.load(seat));
        let range = if row.generation == Some(generation) {
            u32::from(row.first)..u32::from(row.first) + self.room(seat, row)
        } else {
            let count = u32::try_from(listeners.len()).unwrap_or(SLOTS);
            let first = self.free_range(count + HEADROOM.min(count.max(1)))?;
            first..first + count + HEADROOM.min(count.max(1))
        };
        let filled = self.fill(range.clone(), listeners)?;
        let last = filled.steered.values().max().copied();
        let count = last.map_or(0, |slot| slot + 1 - range.start);
        self.rows.store(
            seat,
            SeatRow {
                generation: Some(generation),
                first: narrow(range.start),
                count: narrow(count),
            }
            .to_bits(),
        );
        Ok(filled)
    }

    /// Takes some of the generation's listeners out of the choice; [`Group::register`] brings them
    /// back. Who would have got them gets their neighbours.
    pub(super) fn rest(
        &self,
        generation: GenerationId,
        cookies: &BTreeSet<u64>,
    ) -> Result<(), DatapathError> {
        for slot in self.slots_of(generation) {
            let Some(cookie) = self.cookie_at(slot)?.filter(|it| cookies.contains(it)) else {
                continue;
            };
            self.empty(slot).map_err(|source| DatapathError::Slot {
                cookie,
                slot,
                source,
            })?;
        }
        Ok(())
    }

    /// Takes the generation out of the choice; its sockets leave their slots when they close.
    pub fn unregister(&self, generation: GenerationId) {
        let seat = generation.seat() as usize;
        if SeatRow::from_bits(self.rows.load(seat)).generation == Some(generation) {
            self.rows.store(seat, 0);
        }
    }

    /// How many slots of the generation hold a socket right now.
    pub fn live_listeners(&self, generation: GenerationId) -> u32 {
        let live = self
            .slots_of(generation)
            .filter(|&slot| matches!(self.cookie_at(slot), Ok(Some(_))))
            .count();
        u32::try_from(live).unwrap_or(u32::MAX)
    }

    fn slots_of(&self, generation: GenerationId) -> Range<u32> {
        let row = SeatRow::from_bits(self.rows.load(generation.seat() as usize));
        if row.generation != Some(generation) {
            return 0..0;
        }
        let first = u32::from(row.first);
        first..first + u32::from(row.count)
    }

    fn fill(
        &self,
        range: Range<u32>,
        listeners: &BTreeMap<u64, OwnedFd>,
    ) -> Result<Registered, DatapathError> {
        let mut result = Registered::default();
        let mut free = BTreeSet::new();
        for slot in range {
            match self.cookie_at(slot)? {
                Some(cookie) if listeners.contains_key(&cookie) => {
                    result.steered.insert(cookie, slot);
                }
                // A socket that closed has emptied its slot; another generation's cannot be here.
                Some(_) => {}
                None => {
                    free.insert(slot);
                }
            }
        }
        let mut filled = Vec::new();
        for (&cookie, socket) in listeners {
            if result.steered.contains_key(&cookie) {
                continue;
            }
            let Some(slot) = free.pop_first() else {
                result.left_out.push(cookie);
                continue;
            };
            if let Err(error) = self.insert(slot, socket.as_fd(), cookie) {
                // No row has them: whoever tries again could not give them another slot.
                for slot in filled {
                    if let Err(error) = self.empty(slot) {
                        tracing::warn!(%error, slot, "failed to empty a slot");
                    }
                }
                return Err(error);
            }
            filled.push(slot);
            result.steered.insert(cookie, slot);
        }
        Ok(result)
    }

    /// Takes a socket out of its slot.
    fn empty(&self, slot: u32) -> io::Result<()> {
        match bpf::remove_socket(self.sockets.fd().as_fd(), slot) {
            // It closed just now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    fn insert(&self, slot: u32, socket: BorrowedFd<'_>, cookie: u64) -> Result<(), DatapathError> {
        bpf::insert_socket(self.sockets.fd().as_fd(), slot, socket).map_err(|source| {
            DatapathError::Slot {
                cookie,
                slot,
                source,
            }
        })
    }

    fn cookie_at(&self, slot: u32) -> Result<Option<u64>, DatapathError> {
        bpf::socket_cookie_at(self.sockets.fd().as_fd(), slot)
            .map_err(DatapathError::system("read a slot"))
    }

    /// How many slots from the row's first belong to it: up to the next row's first.
    fn room(&self, seat: usize, row: SeatRow) -> u32 {
        let next = self
            .other_rows(seat)
            .map(|other| u32::from(other.first))
            .filter(|&first| first > u32::from(row.first))
            .min()
            .unwrap_or(SLOTS);
        (next - u32::from(row.first)).min(u32::from(row.count) + HEADROOM)
    }

    /// The first slot of a run of `wanted` slots that no row claims and no socket fills.
    fn free_range(&self, wanted: u32) -> Result<u32, DatapathError> {
        let claimed: Vec<_> = self
            .other_rows(usize::MAX)
            .map(|row| {
                let first = u32::from(row.first);
                first..first + u32::from(row.count) + HEADROOM
            })
            .collect();
        let mut first = PARKING_SLOT + 1;
        let mut taken = 0;
        while first + wanted <= SLOTS {
            match self.first_used(first..first + wanted, &claimed)? {
                None => return Ok(first),
                Some(used) => first = used + 1,
            }
            taken += 1;
        }
        Err(DatapathError::Full {
            wanted,
            taken,
            slots: SLOTS,
        })
    }

    fn first_used(
        &self,
        slots: Range<u32>,
        claimed: &[Range<u32>],
    ) -> Result<Option<u32>, DatapathError> {
        for slot in slots {
            let used = claimed.iter().any(|range| range.contains(&slot));
            if used || self.cookie_at(slot)?.is_some() {
                return Ok(Some(slot));
            }
        }
        Ok(None)
    }

    fn other_rows(&self, seat: usize) -> impl Iterator<Item = SeatRow> + '_ {
        (0..self.rows.len())
            .filter(move |&other| other != seat)
            .map(|other| SeatRow::from_bits(self.rows.load(other)))
            .filter(|row| row.generation.is_some())
    }
}

fn open_steer(dir: &Path, program: &'static str) -> Result<SkReuseport, DatapathError> {
    SkReuseport::from_pin(dir.join(program), SkReuseportAttachType::SelectOrMigrate)
        .map_err(DatapathError::program(program))
}

/// Slots are below 2^16 by the size of the array.
fn narrow(slot: u32) -> u16 {
    u16::try_from(slot).unwrap_or(u16::MAX)
}
