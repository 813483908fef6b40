//! The choice, over random words, rows, hashes and loads: what the exhaustive test of small groups
//! does for small ones.

#![expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tables of a test, of a known and small size"
)]

use std::collections::BTreeSet;

use lb_common::{
    Exit, GenerationId, NEIGHBOURS, PARKING_SLOT, Request, SEATS, SeatRow, SteeringWord, Workers,
    choose, head::HeadReader,
};
use proptest::prelude::*;

/// Fewer without optimisation.
const CASES: u32 = if cfg!(debug_assertions) {
    1_000
} else {
    10_000
};

#[derive(Clone, Debug)]
struct Table {
    rows: Vec<u64>,
    filled: BTreeSet<u32>,
    loads: Vec<u64>,
    cpu: u32,
    selected: Option<u32>,
    tries: u32,
}

impl lb_common::Group for Table {
    fn seat(&mut self, seat: u32) -> SeatRow {
        assert!(seat < SEATS, "seat {seat}");
        SeatRow::from_bits(self.rows[seat as usize])
    }

    fn select(&mut self, slot: u32) -> bool {
        assert_eq!(self.selected, None, "selected twice");
        self.tries += 1;
        let filled = self.filled.contains(&slot);
        if filled {
            self.selected = Some(slot);
        }
        filled
    }

    fn load(&mut self, slot: u32) -> u64 {
        self.loads[slot as usize % self.loads.len()]
    }

    fn cpu(&mut self) -> u32 {
        self.cpu
    }

    fn fresh(&mut self, _generation: GenerationId) -> bool {
        false
    }

    fn reopens(&mut self, _generation: GenerationId) -> bool {
        false
    }
}

/// Slots a seat has in these tables; a row may have fewer.
const ROOM: u16 = 9;

fn first(seat: u16) -> u16 {
    1 + seat * ROOM
}

/// Any rows, some of generations that no longer have their seat.
fn table() -> impl Strategy<Value = Table> {
    let row = (any::<bool>(), 0..4_u32, 0..=ROOM);
    let rows = prop::collection::vec(row, SEATS as usize).prop_map(|rows| {
        let row = |(seat, (there, age, count)): (usize, (bool, u32, u16))| {
            let generation = there.then(|| GenerationId::new(seat as u32 + age * SEATS));
            let row = SeatRow {
                generation: generation.flatten(),
                first: first(seat as u16),
                count,
            };
            row.to_bits()
        };
        rows.into_iter().enumerate().map(row).collect()
    });
    let slots = prop::collection::btree_set(0..u32::from(first(SEATS as u16)), 0..600);
    let loads = prop::collection::vec(0..5_u64, 1..64);
    (rows, slots, loads, any::<u32>()).prop_map(|(rows, filled, loads, cpu)| Table {
        rows,
        filled,
        loads,
        cpu,
        selected: None,
        tries: 0,
    })
}

/// Bits as the agent writes them, of few generations, so that words and rows meet; or any bits.
fn word() -> impl Strategy<Value = SteeringWord> {
    let generation = || 0..4 * u64::from(SEATS);
    let near = (generation(), generation(), 0..1024_u64)
        .prop_map(|(active, candidate, share)| active << 44 | candidate << 24 | share << 14);
    prop_oneof![4 => near, 1 => any::<u64>()].prop_map(SteeringWord::from_bits)
}

fn request() -> impl Strategy<Value = Request> {
    let ticket = prop_oneof![3 => Just(0), 1 => 0..4 * SEATS];
    let kind = (0..4_u64).prop_map(Workers::from_bits);
    (word(), any::<u32>(), any::<u32>(), ticket, kind).prop_map(
        |(word, hash, client, ticket, workers)| Request {
            word,
            hash,
            client,
            ticket: GenerationId::new(ticket),
            workers,
        },
    )
}

/// Whose slot it is.
fn owner(table: &Table, slot: u32) -> Option<GenerationId> {
    let seat = (slot - 1) / u32::from(ROOM);
    SeatRow::from_bits(table.rows[seat as usize]).generation
}

/// Every filled slot of a row that the generation really has.
fn listeners(table: &Table, id: Option<GenerationId>) -> Vec<u32> {
    let Some(id) = id else {
        return Vec::new();
    };
    let row = SeatRow::from_bits(table.rows[id.seat() as usize]);
    if row.generation != Some(id) {
        return Vec::new();
    }
    let first = u32::from(row.first);
    let slots = first..first + u32::from(row.count);
    slots.filter(|slot| table.filled.contains(slot)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn a_choice_is_one_of_those_asked_for(request in request(), mut table in table()) {
        let exit = choose(&request, &mut table);
        prop_assert!(table.tries <= 2 * NEIGHBOURS + 2, "{} tries", table.tries);
        let word = request.word;
        match (exit, table.selected) {
            (Exit::Unselected, None) => prop_assert!(!table.filled.contains(&PARKING_SLOT)),
            (Exit::Parked, Some(slot)) => prop_assert_eq!(slot, PARKING_SLOT),
            (Exit::Unselected | Exit::Parked, other) => prop_assert!(false, "{:?}", other),
            (_, None) => prop_assert!(false, "{:?} without a socket", exit),
            (_, Some(slot)) => {
                let whose = owner(&table, slot);
                prop_assert!(listeners(&table, whose).contains(&slot), "{} is outside its row", slot);
                match exit {
                    Exit::Ticket => prop_assert_eq!(whose, request.ticket),
                    Exit::Active => prop_assert_eq!(whose, word.active),
                    Exit::Candidate => prop_assert_eq!(whose, word.candidate),
                    _ => prop_assert!(whose == word.active || whose == word.candidate),
                }
            }
        }
    }

    #[test]
    fn a_ticket_leads_to_no_other_generation(request in request(), mut table in table()) {
        let exit = choose(&request, &mut table);
        let by_ticket = [Exit::Ticket, Exit::Parked, Exit::Unselected].contains(&exit);
        prop_assert!(request.ticket.is_none() || by_ticket);
        prop_assert!(request.ticket.is_some() || exit != Exit::Ticket);
    }

    #[test]
    fn nobody_is_parked_while_a_whole_generation_listens(request in request(), mut table in table()) {
        let row = request.word.active.map(|id| SeatRow::from_bits(table.rows[id.seat() as usize]));
        if let Some(row) = row
            && row.generation == request.word.active
        {
            let first = u32::from(row.first);
            table.filled.extend(first..first + u32::from(row.count));
            let exit = choose(&request, &mut table);
            let free = request.ticket.is_some() || row.count == 0;
            prop_assert!(free || ![Exit::Parked, Exit::Unselected].contains(&exit), "{:?}", exit);
        }
    }

    /// Of up to four all are compared; of more, never the busier of the two that were looked at, so
    /// the busiest is taken only if another is as busy.
    #[test]
    fn the_least_loaded_is_taken(
        hash in any::<u32>(),
        loads in prop::collection::vec(0..1000_u64, 2..ROOM as usize),
    ) {
        let id = GenerationId::new(1);
        let mut rows = vec![0; SEATS as usize];
        let count = loads.len() as u16;
        rows[1] = SeatRow { generation: id, first: 0, count }.to_bits();
        let filled = (0..u32::from(count)).collect();
        let mut table = Table { rows, filled, loads: loads.clone(), cpu: 0, selected: None, tries: 0 };
        let word = SteeringWord { active: id, ..SteeringWord::default() };
        let request = Request { word, hash, client: 0, ticket: None, workers: Workers::Least };
        prop_assert_eq!(choose(&request, &mut table), Exit::Active);
        let taken = loads[table.selected.unwrap() as usize];
        if loads.len() <= 4 {
            prop_assert_eq!(Some(&taken), loads.iter().min());
        } else {
            let busiest = loads.iter().max().copied();
            let alike = loads.iter().filter(|&&load| Some(load) == busiest).count();
            prop_assert!(Some(taken) != busiest || alike > 1, "{} of {:?}", taken, loads);
        }
    }

    #[test]
    fn a_head_is_read_to_an_end_whatever_it_is(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let mut reader = HeadReader::default();
        let read = bytes.iter().take_while(|&&byte| reader.read(byte)).count();
        prop_assert!(reader.size() as usize <= read + 1);
        let (_advice, _body) = (reader.advice(), reader.body());
    }
}
