extern crate std;
use std::vec::Vec;

use super::*;
use crate::{
    SeatRow,
    flow::{
        FlowExit, first,
        tests::{A, B, IDLE, Table, closed_to, request, table},
    },
};

const NOW: u64 = 1_000_000;
/// Hashes that find the first and the second of two slots.
const FIRST: u32 = 0;
const SECOND: u32 = PLACE;

fn generation(raw: u32) -> Option<GenerationId> {
    GenerationId::new(raw)
}

fn known(raw: u32, age: u64, hash: u32) -> Known {
    Known {
        flow: Flow {
            generation: generation(raw),
            seen: NOW - age,
        },
        hash,
    }
}

/// An id of QUIC-LB's whose second to fifth octets are these.
fn id(flags: u8, first: u8, said: [u8; 4]) -> ConnectionId {
    let [a, b, c, d] = said;
    ConnectionId::read([flags, first, a, b, c, d, 7, 8, 9]).unwrap()
}

/// What `steer_udp` does, without maps.
fn choose(
    request: &Request,
    sight: &Sight,
    rules: (&FlowRules, Quic),
    group: &mut Table,
) -> (FlowExit, Option<GenerationId>, Result<Way, Option<Begun>>) {
    let mut request = *request;
    if request.ticket.is_none()
        && let Some(way) = way(request.hash, sight, NOW, rules, group)
        && way.go(&mut request, group)
    {
        return (FlowExit::Kept, Some(way.generation), Ok(way));
    }
    let (exit, to) = first(&request, group);
    let begun = to.filter(|_| exit != FlowExit::Ticket);
    let begun = begun.map(|to| begins(to, sight, NOW, rules.0));
    (exit, to, Err(begun))
}

/// One case of what is known, and what should follow from it.
struct Case {
    filling: u32,
    request: Request,
    sight: Sight,
    rules: FlowRules,
    quic: Quic,
}

impl Case {
    fn holds(&self, known: Known) -> bool {
        known.flow.generation.is_some() && NOW - known.flow.seen <= self.rules.idle
    }

    fn is_open(&self, generation: Option<GenerationId>) -> bool {
        generation.is_some_and(|id| !self.rules.closed.has(id))
    }

    fn lives(&self, id: GenerationId) -> bool {
        let group = table(self.filling);
        group.filled.iter().any(|slot| slot / 10 == id.raw())
    }

    /// The generation that the id names, found the long way.
    fn said(&self) -> Option<GenerationId> {
        let octets = usize::from(self.quic.server_id?.get());
        let bytes = self.sight.id?.key().to_be_bytes();
        let (&rotation, rest) = bytes.split_first()?;
        if rotation >= 0b1110_0000 {
            return None;
        }
        [A, B]
            .into_iter()
            .find(|raw| raw.to_be_bytes()[4 - octets..] == rest[..octets])
            .and_then(generation)
    }

    /// Where it belongs, and the hash that finds the socket.
    fn place(&self) -> Option<(GenerationId, u32)> {
        let Sight { tuple, learned, .. } = self.sight;
        let candidates = [
            (self.holds(learned), learned.flow.generation, learned.hash),
            (self.holds(tuple), tuple.flow.generation, tuple.hash),
            (true, self.said(), self.request.hash),
        ];
        let found = candidates
            .into_iter()
            .find(|&(holds, id, _)| holds && self.is_open(id));
        let (_, id, hash) = found.filter(|_| self.request.ticket.is_none())?;
        id.filter(|&id| self.lives(id)).map(|id| (id, hash))
    }

    fn check(&self) {
        let mut group = table(self.filling);
        let rules = (&self.rules, self.quic);
        let (exit, to, wrote) = choose(&self.request, &self.sight, rules, &mut group);
        let owner = group.selected.map(|slot| slot / 10);
        assert_eq!(owner, to.map(GenerationId::raw));
        match (self.place(), wrote) {
            (Some((id, hash)), Ok(way)) => {
                assert_eq!((exit, to), (FlowExit::Kept, Some(id)));
                self.check_way(way, id, hash);
                self.check_slot(id, hash, group.selected);
            }
            (None, Err(begun)) => {
                let mut plain = table(self.filling);
                assert_eq!((exit, to), first(&self.request, &mut plain));
                let written = exit != FlowExit::Nobody && exit != FlowExit::Ticket;
                assert_eq!(begun.is_some(), written);
                if let Some(begun) = begun {
                    self.check_begun(begun, to);
                }
            }
            (place, wrote) => panic!("{place:?}, but {wrote:?}"),
        }
    }

    fn check_way(&self, way: Way, id: GenerationId, hash: u32) {
        assert_eq!((way.generation, way.hash), (id, hash));
        let Sight { tuple, learned, .. } = self.sight;
        let agrees = self.holds(tuple) && tuple.flow.generation == Some(id) && tuple.hash == hash;
        assert_eq!(way.tuple == Entry::Written, !agrees);
        let is_due = |known: Known| NOW - known.flow.seen > self.rules.refresh;
        if agrees {
            assert_eq!(way.tuple == Entry::Refreshed, is_due(tuple));
        }
        let by_id = self.holds(learned) && self.is_open(learned.flow.generation);
        let teaches = self.sight.id.is_some_and(ConnectionId::teaches);
        assert_eq!(way.id == Entry::Written, !by_id && teaches);
        assert_eq!(way.id == Entry::Refreshed, by_id && is_due(learned));
        let kept = Way::from_bits(Way::to_bits(Some(way))).unwrap();
        assert_eq!((kept.generation, kept.hash), (id, hash));
        assert_eq!(kept.is_news(), way.is_news());
    }

    /// The hash finds its own slot, unless that is empty.
    fn check_slot(&self, id: GenerationId, hash: u32, selected: Option<u32>) {
        let wanted = 10 * id.raw() + (hash >> 31);
        if table(self.filling).filled.contains(&wanted) {
            assert_eq!(selected, Some(wanted));
        }
    }

    fn check_begun(&self, begun: Begun, to: Option<GenerationId>) {
        let Sight { tuple, learned, .. } = self.sight;
        let was = [learned, tuple]
            .into_iter()
            .find(|&known| self.holds(known));
        let moved = was.is_some_and(|was| was.flow.generation != to);
        assert_eq!(begun.moved, moved);
        assert_eq!(begun.id, learned.flow.generation.is_some());
    }
}

fn ids() -> Vec<Option<ConnectionId>> {
    let to = |raw: u32, octets: usize| {
        let mut said = [0; 4];
        said[..octets].copy_from_slice(&raw.to_be_bytes()[4 - octets..]);
        said
    };
    let mut ids = Vec::from([
        None,
        Some(id(FIXED_BIT, 0, [0xff; 4])),
        Some(id(FIXED_BIT, 0, [0; 4])),
        Some(id(FIXED_BIT, 0xff, to(A, 1))),
    ]);
    for octets in [1, 2, 4] {
        ids.push(Some(id(FIXED_BIT, 0x1f, to(A, octets))));
        ids.push(Some(id(0, 0xdf, to(B, octets))));
    }
    ids
}

/// Every filling, ticket, id, what was learned of it, flow, age of both and closed seat: a connection
/// stays where it is exactly as long as it may, and everything else goes as `choose` says.
#[test]
#[cfg_attr(miri, ignore = "more than an interpreter gets through")]
fn a_connection_stays_as_long_as_it_may() {
    let open = FlowRules::of(IDLE);
    let ages = [0, open.refresh + 1, open.idle + 1];
    let mut entries = Vec::from([Known::NOTHING]);
    for raw in [A, B] {
        for age in ages {
            entries.push(known(raw, age, FIRST));
            entries.push(known(raw, age, SECOND));
        }
    }
    let mut cases = 0_u64;
    for filling in 0..16 {
        for ticket in [0, B] {
            for closed in [[].as_slice(), &[A], &[A, B]] {
                for octets in [0, 1, 2, 4] {
                    for id in ids() {
                        for &tuple in &entries {
                            for &learned in &entries {
                                if id.is_none() && learned != Known::NOTHING {
                                    continue;
                                }
                                let case = Case {
                                    filling,
                                    request: request(A, B, 0, ticket, SECOND),
                                    sight: Sight { tuple, id, learned },
                                    rules: FlowRules {
                                        closed: closed_to(closed),
                                        ..open
                                    },
                                    quic: Quic {
                                        server_id: ServerIdOctets::new(octets),
                                    },
                                };
                                case.check();
                                cases += 1;
                            }
                        }
                    }
                }
            }
        }
    }
    assert_eq!(cases, 16 * 2 * 3 * 4 * (9 * 13 * 13 + 13));
}

/// A group where generation 0x12345 lives.
struct Far;

impl Group for Far {
    fn seat(&mut self, seat: u32) -> SeatRow {
        let far = generation(0x1_2345);
        SeatRow {
            generation: far.filter(|far| far.seat() == seat),
            first: 1,
            count: 1,
        }
    }

    fn select(&mut self, _slot: u32) -> bool {
        true
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

/// Of all ids of so many octets, exactly one leads to a generation: what chance is left to ids of servers
/// that were not told to say anything.
#[test]
fn one_id_of_all_names_a_generation() {
    for (octets, own) in [(1, 0x45), (2, 0x2345)] {
        let server_id = ServerIdOctets::new(octets).unwrap();
        let all = 0..1_u32 << (8 * octets);
        let found: Vec<u32> = all
            .filter(|&said| {
                let mut bytes = [0; 4];
                let said = said.to_be_bytes();
                bytes[..usize::from(octets)].copy_from_slice(&said[4 - usize::from(octets)..]);
                encoded(id(FIXED_BIT, 0, bytes), server_id, &mut Far).is_some()
            })
            .collect();
        assert_eq!(found, [own]);
        assert_eq!(server_id.of(generation(0x1_2345).unwrap()), own);
    }
    let whole = ServerIdOctets::new(4).unwrap();
    let said = [0, 1, 0x23, 0x45];
    assert!(encoded(id(FIXED_BIT, 0, said), whole, &mut Far).is_some());
    assert!(encoded(id(FIXED_BIT, 0, [1, 1, 0x23, 0x45]), whole, &mut Far).is_none());
}

#[test]
fn generations_that_live_together_never_share_an_id() {
    let octet = ServerIdOctets::new(1).unwrap();
    for last in [0, 200, GenerationId::MAX - SEATS] {
        let mut ids: Vec<u32> = (last + 1..=last + SEATS)
            .filter_map(generation)
            .map(|id| octet.of(id))
            .collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), SEATS as usize - 1);
    }
}

#[test]
fn only_short_headers_have_an_id_that_counts() {
    let head = |flags| [flags, 1, 2, 3, 4, 5, 6, 7, 8];
    for flags in 0..=u8::MAX {
        let id = ConnectionId::read(head(flags));
        assert_eq!(id.is_some(), flags < 0x80);
        if let Some(id) = id {
            assert_eq!(id.key(), 0x0102_0304_0506_0708);
            assert_eq!(id.teaches(), flags >= 0x40);
        }
    }
}

#[test]
fn words_survive_the_round_trip() {
    for began in [0, 1, BEGAN] {
        for hash in [0, SECOND, 0x1234_5000] {
            let place = Place { began, hash };
            assert_eq!(Place::from_bits(place.to_bits()), place);
        }
    }
    let began = Place {
        began: NOW,
        hash: 0,
    };
    assert_eq!(began.to_bits(), NOW, "as in tables that know of no ids");
    assert_eq!(Quic::from_bits(Quic::to_bits(None)), None);
    for octets in 0..=SERVER_ID_MOST {
        let quic = Quic {
            server_id: ServerIdOctets::new(octets),
        };
        assert_eq!(Quic::from_bits(Quic::to_bits(Some(quic))), Some(quic));
        assert_eq!(quic.server_id.map_or(0, ServerIdOctets::get), octets);
    }
    assert_eq!(ServerIdOctets::new(SERVER_ID_MOST + 1), None);
    assert_eq!(Way::from_bits(Way::to_bits(None)), None);
}
