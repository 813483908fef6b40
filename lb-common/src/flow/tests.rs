extern crate std;
use std::{collections::BTreeSet, vec::Vec};

use super::*;
use crate::{PARKING_SLOT, SeatRow, Share, SteeringWord, Workers};

pub(super) const A: u32 = 1;
pub(super) const B: u32 = 2;
/// Nine seconds: refreshed each second.
pub(super) const IDLE: u64 = 9_000_000_000;

/// Generation `g` has two slots from `10 * g`, of which `filled` hold a socket.
pub(super) struct Table {
    pub(super) filled: BTreeSet<u32>,
    pub(super) selected: Option<u32>,
}

impl Group for Table {
    fn seat(&mut self, seat: u32) -> SeatRow {
        if !(A..=B).contains(&seat) {
            return SeatRow::default();
        }
        SeatRow {
            generation: GenerationId::new(seat),
            first: (10 * seat) as u16,
            count: 2,
        }
    }

    fn select(&mut self, slot: u32) -> bool {
        assert_ne!(slot, PARKING_SLOT, "datagrams are not parked");
        let filled = self.filled.contains(&slot);
        if filled {
            self.selected = Some(slot);
        }
        filled
    }

    fn load(&mut self, _slot: u32) -> u64 {
        0
    }

    fn cpu(&mut self) -> u32 {
        0
    }

    fn fresh(&mut self, _generation: GenerationId) -> bool {
        panic!("asked for a datagram")
    }

    fn reopens(&mut self, _generation: GenerationId) -> bool {
        panic!("asked for a datagram")
    }
}

pub(super) fn table(filling: u32) -> Table {
    let slots = [10, 11, 20, 21];
    let filled = slots.iter().enumerate();
    Table {
        filled: filled
            .filter(|(bit, _)| filling >> bit & 1 != 0)
            .map(|(_, &slot)| slot)
            .collect(),
        selected: None,
    }
}

pub(super) fn request(
    active: u32,
    candidate: u32,
    permille: u16,
    ticket: u32,
    hash: u32,
) -> Request {
    Request {
        word: SteeringWord {
            active: GenerationId::new(active),
            candidate: GenerationId::new(candidate),
            share: Share::permille(permille),
            epoch: 0,
        },
        hash,
        client: hash,
        ticket: GenerationId::new(ticket),
        workers: Workers::Hash,
    }
}

/// The seats of these generations.
pub(super) fn closed_to(ids: &[u32]) -> SeatSet {
    let ids = ids.iter().copied().filter_map(GenerationId::new);
    ids.fold(SeatSet::EMPTY, SeatSet::with)
}

/// Every filling, word, ticket, known flow, age of it and closed seat: a flow stays where it is
/// exactly as long as it may, and everything else goes as `choose` says.
#[test]
#[cfg_attr(miri, ignore = "more than an interpreter gets through")]
fn a_flow_stays_as_long_as_it_may() {
    let mut rules = FlowRules::of(IDLE);
    let now = 1_000_000;
    let ids = [0, A, B];
    let ages = [
        0,
        rules.refresh,
        rules.refresh + 1,
        rules.idle,
        rules.idle + 1,
    ];
    let mut cases = 0_u64;
    for filling in 0..16 {
        for active in ids {
            for candidate in ids {
                for permille in [0, 1000] {
                    for ticket in ids {
                        for flow in ids {
                            for age in ages {
                                for closed in [[].as_slice(), &[A], &[B]] {
                                    for hash in [0, u32::MAX] {
                                        rules.closed = closed_to(closed);
                                        let request =
                                            request(active, candidate, permille, ticket, hash);
                                        let known = (flow != 0).then_some(Flow {
                                            generation: GenerationId::new(flow),
                                            seen: now - age,
                                        });
                                        check(&request, filling, known, now, &rules);
                                        cases += 1;
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
    assert_eq!(cases, 16 * 3 * 3 * 2 * 3 * 3 * 5 * 3 * 2);
}

fn check(request: &Request, filling: u32, known: Option<Flow>, now: u64, rules: &FlowRules) {
    let mut group = table(filling);
    let lives = |id: GenerationId| {
        let mine: Vec<u32> = group.filled.iter().copied().collect();
        mine.iter().any(|slot| slot / 10 == id.raw())
    };
    let fresh = known.filter(|flow| now - flow.seen <= rules.idle);
    let stays = fresh
        .and_then(|flow| flow.generation)
        .filter(|&id| lives(id) && !rules.closed.has(id))
        .filter(|_| request.ticket.is_none());
    let mut plain = table(filling);
    let expected = first(request, &mut plain);
    let steered = choose_datagram(request, known, now, rules, &mut group);
    let owner = group.selected.map(|slot| slot / 10);
    assert_eq!(owner, steered.generation.map(GenerationId::raw));
    if let Some(id) = stays {
        assert_eq!(steered.exit, FlowExit::Kept);
        assert_eq!(steered.generation, Some(id));
        let age = known.map_or(0, |flow| now - flow.seen);
        let refreshed = steered.entry == Entry::Refreshed;
        assert_eq!(refreshed, age > rules.refresh);
        assert!(!steered.moved);
        return;
    }
    assert_eq!((steered.exit, steered.generation), expected);
    let written = steered.entry == Entry::Written;
    let nobody = steered.exit == FlowExit::Nobody;
    assert_eq!(written, !nobody && request.ticket.is_none(), "{steered:?}");
    let was = fresh.and_then(|flow| flow.generation);
    let moved = written && was.is_some() && was != steered.generation;
    assert_eq!(steered.moved, moved);
}

#[test]
fn a_ticket_leads_nowhere_else() {
    let mut group = table(0b0011);
    let steered = choose_datagram(
        &request(A, 0, 0, B, 7),
        None,
        5,
        &FlowRules::of(IDLE),
        &mut group,
    );
    assert_eq!(steered.exit, FlowExit::Nobody);
    assert_eq!(group.selected, None);
}

#[test]
fn a_flow_survives_the_round_trip() {
    for raw in [0, 1, 63, GenerationId::MAX] {
        for seen in [0, 1, 1 << 43, TICKS] {
            let flow = Flow {
                generation: GenerationId::new(raw),
                seen,
            };
            assert_eq!(Flow::from_bits(flow.to_bits()), flow);
        }
    }
}

#[test]
fn a_key_says_its_addresses_again() {
    for (client, server) in [
        ("192.0.2.1:4711", "192.0.2.2:53"),
        ("[2001:db8::1]:4711", "[::1]:53"),
    ] {
        let (client, server) = (client.parse().unwrap(), server.parse().unwrap());
        let key = FlowKey::from_words(&FlowKey::new(client, server).to_words());
        assert_eq!((key.client(), key.server()), (client, server));
    }
}

#[test]
fn the_last_datagram_is_known_to_an_eighth_of_the_idle_time_or_a_second() {
    assert_eq!(FlowRules::of(125_000_000_000).refresh, ticks(1_000_000_000));
    let short = FlowRules::of(800_000_000);
    assert_eq!(short.refresh, short.idle / 8);
    assert_eq!(
        FlowRules::of(1).idle,
        1,
        "0 would be a service without flows"
    );
}

#[test]
fn each_count_has_a_cell_of_its_own() {
    let mut cells: Vec<usize> = FlowExit::ALL.iter().map(|exit| exit.cell()).collect();
    cells.extend([
        FlowExit::CALLS,
        FlowExit::BEGUN,
        FlowExit::MOVED,
        FlowExit::UNWRITTEN,
        FlowExit::MADE,
        FlowExit::READDRESSED,
    ]);
    let distinct: BTreeSet<usize> = cells.iter().copied().collect();
    assert_eq!(distinct.len(), cells.len());
    assert!(cells.iter().all(|&cell| cell < FLOW_COUNTS));
}
