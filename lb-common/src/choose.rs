//! The choice: which socket of a reuseport group gets a connection.
//!
//! Pure but for the two questions a [`Group`] answers. `lb-ebpf` answers them from its maps; the
//! tests below answer them from a table and try every combination.

use crate::{
    Exit, GenerationId, PARKING_SLOT, SeatRow, SteeringWord, Workers,
    workers::{least, scale, two},
};

/// Slots tried in one generation before the next best is taken: the wanted one and its
/// neighbours. Bounded because the verifier unrolls it and because a generation that lost this
/// many listeners in a row is better left alone.
pub const NEIGHBOURS: u32 = 4;

/// What the choice asks of a reuseport group.
pub trait Group {
    /// The row at `seat`, `0..SEATS`.
    fn seat(&mut self, seat: u32) -> SeatRow;
    /// Tries to hand the connection to the socket at `slot`; false when the slot is empty.
    fn select(&mut self, slot: u32) -> bool;
    /// How many connections are open that came through the listener at `slot`; asked for
    /// [`Workers::Least`] only.
    fn load(&mut self, slot: u32) -> u64;
    /// The CPU the connection arrives at; asked for [`Workers::Cpu`] only.
    fn cpu(&mut self) -> u32;
    /// Tries to hand the connection to a listener of the generation that has no slot yet; false when
    /// there is none.
    fn fresh(&mut self, generation: GenerationId) -> bool;
    /// Whether the generation, which has no listener, is about to open one, and somebody will hand
    /// over who waits for that.
    fn reopens(&mut self, generation: GenerationId) -> bool;
}

/// What the choice knows about one connection.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// The steering word, read once.
    pub word: SteeringWord,
    /// The kernel's hash of the connection's four-tuple: spreads over the slots of a generation.
    pub hash: u32,
    /// [`client_hash`] of the client's address: decides about the share.
    pub client: u32,
    /// The generation a ticket names.
    pub ticket: Option<GenerationId>,
    /// Which of a generation's listeners is wanted.
    pub workers: Workers,
}

impl Request {
    /// Whether neither a ticket nor a share has a say.
    #[inline(always)]
    fn is_plain(&self) -> bool {
        self.ticket.is_none() && self.word.share.as_permille() == 0
    }
}

/// Chooses for `request`, handing it to `group`, and says how it ended.
///
/// A ticket leads to its generation or to the parking listener, never to another generation: a
/// probe must not be answered by the wrong one. Everybody else gets the wanted generation, then
/// the other live one, then the parking listener. A reload is not the active generation's end: its
/// new listener is taken before it has a slot, and while it closes one to open another, clients
/// wait.
#[inline(always)]
pub fn choose<G: Group>(request: &Request, group: &mut G) -> Exit {
    if request.is_plain() {
        let hashed = |row, _group: &mut G| first_of(row) + scale(request.hash, count_of(row));
        let is_chosen = match request.workers {
            Workers::Hash => straight(request, group, hashed),
            Workers::Cpu | Workers::Least => among_workers(request, group),
        };
        if is_chosen {
            return Exit::Active;
        }
    }
    choose_in_full(request, group)
}

/// What nearly every call is: the active generation takes it, at the slot that `slot` names. Kept
/// apart so that it is short and in one piece, for the instruction cache's sake.
#[inline(always)]
fn straight<G: Group>(
    request: &Request,
    group: &mut G,
    slot: impl FnOnce(SeatRow, &mut G) -> u32,
) -> bool {
    let Some(active) = request.word.active else {
        return false;
    };
    let row = group.seat(active.seat());
    if row.generation != Some(active) || row.count == 0 {
        return false;
    }
    let slot = slot(row, group);
    group.select(slot)
}

/// The same where more than the hash has a say; out of the way of who goes by the hash.
#[inline(never)]
fn among_workers<G: Group>(request: &Request, group: &mut G) -> bool {
    straight(request, group, |row, group| slot(row, request, group))
}

const fn first_of(row: SeatRow) -> u32 {
    row.first as u32
}

const fn count_of(row: SeatRow) -> u32 {
    row.count as u32
}

/// The whole choice.
#[cold]
#[inline(never)]
fn choose_in_full<G: Group>(request: &Request, group: &mut G) -> Exit {
    if let Some(ticket) = request.ticket {
        return match within(Some(ticket), request, group) {
            Some(_) => Exit::Ticket,
            None => park(group),
        };
    }
    let word = request.word;
    let in_share = word.candidate.is_some() && word.share.contains(request.client);
    let (wanted, exit) = if in_share {
        (word.candidate, Exit::Candidate)
    } else {
        (word.active, Exit::Active)
    };
    match within(wanted, request, group) {
        Some(0) => return exit,
        Some(_) => return Exit::Neighbour,
        None => {}
    }
    let other = word.other_than(wanted);
    if let Some(active) = word.active.filter(|_| wanted == word.active) {
        if group.fresh(active) {
            return Exit::Neighbour;
        }
        if other.is_some() && group.reopens(active) && group.select(PARKING_SLOT) {
            return Exit::Parked;
        }
    }
    if within(other, request, group).is_some() {
        return Exit::OtherGeneration;
    }
    park(group)
}

/// The slot of the row that the connection should have; the row has one.
#[inline(always)]
fn slot<G: Group>(row: SeatRow, request: &Request, group: &mut G) -> u32 {
    let (first, count) = (u32::from(row.first), u32::from(row.count));
    match request.workers {
        // Of one there is nothing to choose.
        Workers::Least if count > 1 => least(row, request.hash, |slot| group.load(slot)),
        Workers::Cpu => first + group.cpu() % count,
        Workers::Hash | Workers::Least => first + scale(request.hash, count),
    }
}

/// The same for the whole choice, as an index: of two listeners at most, for the verifier follows
/// every way through each of the three calls.
#[inline(always)]
fn wanted_index<G: Group>(row: SeatRow, request: &Request, group: &mut G) -> u32 {
    let count = u32::from(row.count);
    match request.workers {
        Workers::Least if count > 1 => {
            let (one, other) = two(row, request.hash);
            let least = if group.load(other) < group.load(one) {
                other
            } else {
                one
            };
            least - u32::from(row.first)
        }
        Workers::Cpu => group.cpu() % count,
        Workers::Hash | Workers::Least => scale(request.hash, count),
    }
}

#[inline(always)]
fn park<G: Group>(group: &mut G) -> Exit {
    if group.select(PARKING_SLOT) {
        Exit::Parked
    } else {
        Exit::Unselected
    }
}

/// Selects a listener of `generation`; says how many slots past the wanted one it stands.
#[inline(always)]
pub(crate) fn within<G: Group>(
    generation: Option<GenerationId>,
    request: &Request,
    group: &mut G,
) -> Option<u32> {
    let generation = generation?;
    let row = group.seat(generation.seat());
    if row.generation != Some(generation) || row.count == 0 {
        return None;
    }
    let count = u32::from(row.count);
    let mut index = wanted_index(row, request, group);
    for probe in 0..NEIGHBOURS {
        if probe >= count {
            break;
        }
        if group.select(u32::from(row.first) + index) {
            return Some(probe);
        }
        index += 1;
        if index >= count {
            index = 0;
        }
    }
    None
}

/// A hash of a client's address that does not depend on its port, so that a client stays on its
/// side of a share. `salt` differs from service to service.
#[inline(always)]
pub const fn client_hash(address: [u32; 4], salt: u64) -> u32 {
    let low = (address[0] as u64) << 32 | address[1] as u64;
    let high = (address[2] as u64) << 32 | address[3] as u64;
    // The finalizer of splitmix64 (public domain), once for each half.
    let mixed = splitmix(splitmix(low ^ salt).wrapping_add(high));
    (mixed >> 32) as u32
}

#[inline(always)]
const fn splitmix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::{collections::BTreeSet, vec::Vec};

    use super::*;
    use crate::{SEATS, Share};

    const A: u32 = 1;
    const B: u32 = 2;
    const C: u32 = 3;

    /// A group whose generation `g` has `counts[g]` slots, of which `filled` hold a socket.
    struct Table {
        counts: [u16; 4],
        filled: BTreeSet<u32>,
        selected: Option<u32>,
        tries: u32,
        /// Who has a listener without a slot.
        fresh: u32,
        /// Who is about to open one.
        reopens: u32,
    }

    fn first_slot(raw: u32) -> u16 {
        1 + (raw as u16 - 1) * 8
    }

    impl Group for Table {
        fn seat(&mut self, seat: u32) -> SeatRow {
            assert!(seat < SEATS);
            match self.counts.get(seat as usize) {
                Some(&count) if seat > 0 => SeatRow {
                    generation: GenerationId::new(seat),
                    first: first_slot(seat),
                    count,
                },
                _ => SeatRow::default(),
            }
        }

        fn select(&mut self, slot: u32) -> bool {
            assert!(self.selected.is_none(), "selected twice");
            self.tries += 1;
            let filled = self.filled.contains(&slot);
            if filled {
                self.selected = Some(slot);
            }
            filled
        }

        fn load(&mut self, slot: u32) -> u64 {
            u64::from(slot % 3)
        }

        fn cpu(&mut self) -> u32 {
            5
        }

        fn fresh(&mut self, generation: GenerationId) -> bool {
            assert!(self.selected.is_none(), "selected twice");
            let is_there = self.fresh == generation.raw();
            if is_there {
                self.selected = Some(u32::from(first_slot(self.fresh)) + 7);
            }
            is_there
        }

        fn reopens(&mut self, generation: GenerationId) -> bool {
            self.reopens == generation.raw()
        }
    }

    fn owner(slot: u32) -> u32 {
        if slot == PARKING_SLOT {
            0
        } else {
            (slot - 1) / 8 + 1
        }
    }

    /// Every word over two generations and "none", every ticket, every filling of up to three
    /// slots a generation and the parking slot, shares at both ends and the middle.
    #[test]
    #[cfg_attr(miri, ignore = "more than an interpreter gets through")]
    fn exhaustive_over_small_groups() {
        let ids: Vec<Option<GenerationId>> = [0, A, B].map(GenerationId::new).to_vec();
        let tickets: Vec<Option<GenerationId>> = [0, A, C].map(GenerationId::new).to_vec();
        let hashes = [0, 1 << 30, 1 << 31, 3 << 30, u32::MAX];
        let mut cases = 0_u64;
        for count in 0..=3_u16 {
            for filling in 0..1_u32 << (3 * 2 + 1) {
                for &active in &ids {
                    for &candidate in &ids {
                        for permille in [0, 500, 1000] {
                            for &ticket in &tickets {
                                for (hash, workers) in with_workers(hashes) {
                                    let request = Request {
                                        word: SteeringWord {
                                            active,
                                            candidate,
                                            share: Share::permille(permille),
                                            epoch: 7,
                                        },
                                        hash,
                                        client: hash,
                                        ticket,
                                        workers,
                                    };
                                    for (fresh, reopens) in [(0, 0), (A, 0), (B, A), (0, A)] {
                                        check(&request, count, filling, fresh, reopens);
                                        cases += 1;
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
        assert_eq!(cases, 4 * 128 * 9 * 3 * 3 * 5 * 3 * 4);
    }

    fn with_workers(hashes: [u32; 5]) -> impl Iterator<Item = (u32, Workers)> {
        let all = [Workers::Hash, Workers::Cpu, Workers::Least];
        hashes
            .into_iter()
            .flat_map(move |hash| all.map(|workers| (hash, workers)))
    }

    fn table(count: u16, filling: u32) -> Table {
        let mut filled = BTreeSet::new();
        if filling & 1 != 0 {
            filled.insert(PARKING_SLOT);
        }
        for raw in [A, B] {
            for index in 0..3_u32 {
                let bit = 1 + (raw - 1) * 3 + index;
                if filling >> bit & 1 != 0 && index < u32::from(count) {
                    filled.insert(u32::from(first_slot(raw)) + index);
                }
            }
        }
        Table {
            counts: [0, count, count, 0],
            filled,
            selected: None,
            tries: 0,
            fresh: 0,
            reopens: 0,
        }
    }

    fn check(request: &Request, count: u16, filling: u32, fresh: u32, reopens: u32) {
        let mut group = table(count, filling);
        (group.fresh, group.reopens) = (fresh, reopens);
        let live = |id: Option<GenerationId>| {
            id.is_some_and(|id| group.filled.iter().any(|&slot| owner(slot) == id.raw()))
        };
        let parked = if group.filled.contains(&PARKING_SLOT) {
            Exit::Parked
        } else {
            Exit::Unselected
        };
        let word = request.word;
        let share = word.candidate.is_some() && word.share.contains(request.client);
        let wanted = if share { word.candidate } else { word.active };
        let other = if wanted == word.active {
            word.candidate
        } else {
            word.active
        };
        let raw = |id: Option<GenerationId>| id.map_or(0, GenerationId::raw);
        let (allowed, to): (&[Exit], Option<GenerationId>) = match request.ticket {
            Some(ticket) if live(Some(ticket)) => (&[Exit::Ticket], Some(ticket)),
            None if live(wanted) && share => (&[Exit::Candidate, Exit::Neighbour], wanted),
            None if live(wanted) => (&[Exit::Active, Exit::Neighbour], wanted),
            None if wanted.is_some() && wanted == word.active && raw(wanted) == fresh => {
                (&[Exit::Neighbour], wanted)
            }
            // A reload is no end: nobody gets to the other one meanwhile.
            None if parked == Exit::Parked
                && wanted.is_some()
                && wanted == word.active
                && other.is_some()
                && raw(wanted) == reopens =>
            {
                (&[Exit::Parked], None)
            }
            None if live(other) => (&[Exit::OtherGeneration], other),
            // A ticket that misses leads to no other generation.
            Some(_) | None => (&[parked], None),
        };
        let exit = choose(request, &mut group);
        assert!(
            allowed.contains(&exit),
            "{exit:?}, not one of {allowed:?}: {request:?}"
        );
        match exit {
            Exit::Unselected => assert_eq!(group.selected, None),
            Exit::Parked => assert_eq!(group.selected, Some(PARKING_SLOT)),
            _ => assert_eq!(group.selected.map(owner), to.map(GenerationId::raw)),
        }
        assert!(
            group.tries <= 2 * NEIGHBOURS + 3,
            "unbounded: {}",
            group.tries
        );
    }

    #[test]
    fn a_stale_id_finds_no_row() {
        // Generation 65 has seat 1, which generation 1 holds.
        let word = SteeringWord {
            active: GenerationId::new(65),
            ..SteeringWord::default()
        };
        let request = Request {
            word,
            hash: 0,
            client: 0,
            ticket: None,
            workers: Workers::Hash,
        };
        let mut group = table(1, 0b111);
        assert_eq!(choose(&request, &mut group), Exit::Parked);
    }

    #[test]
    fn all_slots_of_a_generation_are_used() {
        let word = SteeringWord {
            active: GenerationId::new(A),
            ..SteeringWord::default()
        };
        let mut hits = [0_u32; 3];
        for step in 0..3000_u32 {
            let request = Request {
                word,
                hash: step.wrapping_mul(1_431_655),
                client: 0,
                ticket: None,
                workers: Workers::Hash,
            };
            let mut group = table(3, 0b1111);
            assert_eq!(choose(&request, &mut group), Exit::Active);
            hits[group.selected.unwrap() as usize - 1] += 1;
        }
        assert!(hits.iter().all(|&hit| hit > 900), "{hits:?}");
    }

    #[test]
    #[cfg_attr(miri, ignore = "more than an interpreter gets through")]
    fn the_client_hash_spreads_neighbouring_addresses() {
        let share = Share::permille(250);
        let inside = (0..10_000_u32)
            .filter(|&n| share.contains(client_hash([0, 0, 0xffff, 0x0a00_0000 + n], 42)))
            .count();
        assert!(
            (2300..2700).contains(&inside),
            "{inside} of 10000 in a share of 250 permille"
        );
    }
}
