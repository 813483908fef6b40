//! QUIC: a connection goes on with its server wherever the client's datagrams come from.
//!
//! A datagram of an open connection names it by an id that the server made up. Which generation that
//! is, is learned from datagrams of flows that are known; or the id says so itself, where the server
//! was told to have it do so.

use super::{Entry, Flow, FlowRules};
use crate::{
    choose::{Group, Request, within},
    generation::{GenerationId, SEATS},
};

/// Octets of a connection id that are looked at. A short header does not say how long the id is:
/// that of a server with shorter ids cannot be told from what follows it.
pub const ID_OCTETS: usize = 8;

/// Octets of a datagram's beginning that are looked at: flags, then the id.
pub const HEAD: usize = 1 + ID_OCTETS;

/// The most octets that a server's own id has within a connection id.
pub const SERVER_ID_MOST: u8 = 4;

const LONG_HEADER: u8 = 0x80;
const FIXED_BIT: u8 = 0x40;
/// QUIC-LB's first three bits of an id that says nothing of its server.
const UNROUTABLE: u64 = 0b111;

/// What a datagram says about the connection that it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionId {
    octets: u64,
    fixed: bool,
}

impl ConnectionId {
    /// The id in a datagram that begins so; `None` for one with a long header. Those are sent before
    /// the handshake is confirmed, and until then the client's address does not change (RFC 9000,
    /// section 9).
    #[inline(always)]
    pub const fn read(head: [u8; HEAD]) -> Option<Self> {
        let [flags, octets @ ..] = head;
        if flags & LONG_HEADER != 0 {
            return None;
        }
        Some(Self {
            octets: u64::from_be_bytes(octets),
            fixed: flags & FIXED_BIT != 0,
        })
    }

    /// The key in the map of ids.
    #[inline(always)]
    pub const fn key(self) -> u64 {
        self.octets
    }

    /// Whether anything is learned from the datagram. Peers may agree to leave the fixed bit to
    /// chance (RFC 9287), but then half of their datagrams have it; what is never QUIC at all, like
    /// DTLS (RFC 9443), has it never, and the same octets in many a client's datagrams.
    #[inline(always)]
    pub const fn teaches(self) -> bool {
        self.fixed
    }

    /// What stands after the first octet, where QUIC-LB has the server's id; `None` where the first
    /// one says that there is none.
    #[inline(always)]
    const fn server_id(self, octets: ServerIdOctets) -> Option<u32> {
        if self.octets >> 61 == UNROUTABLE {
            return None;
        }
        let after_the_first = self.octets << 8;
        Some((after_the_first >> (64 - octets.bits())) as u32)
    }
}

/// How many octets of a connection id say whose it is: `1..=SERVER_ID_MOST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerIdOctets(u8);

impl ServerIdOctets {
    /// So many; `None` if they cannot be.
    #[inline(always)]
    pub const fn new(octets: u8) -> Option<Self> {
        if octets == 0 || octets > SERVER_ID_MOST {
            return None;
        }
        Some(Self(octets))
    }

    /// The number of octets.
    pub const fn get(self) -> u8 {
        self.0
    }

    #[inline(always)]
    const fn bits(self) -> u32 {
        self.0 as u32 * 8
    }

    /// What the ids of the generation's connections say: as much of its number as finds room. It
    /// always has the seat, so that generations that live at the same time never share one.
    #[inline(always)]
    pub const fn of(self, generation: GenerationId) -> u32 {
        let mask = u32::MAX >> (32 - self.bits());
        generation.raw() & mask
    }
}

/// How a service tells QUIC connections apart, as a cell of the rules ([`super::FLOW_QUIC`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quic {
    /// How many octets of an id say whose it is; `None` if no server was asked to say so.
    pub server_id: Option<ServerIdOctets>,
}

impl Quic {
    /// The cell of a service; 0 for one that looks at no ids.
    pub const fn to_bits(quic: Option<Self>) -> u64 {
        match quic {
            None => 0,
            Some(Self { server_id: None }) => 1,
            Some(Self {
                server_id: Some(octets),
            }) => 1 | (octets.0 as u64) << 8,
        }
    }

    /// What the cell says.
    #[inline(always)]
    pub const fn from_bits(bits: u64) -> Option<Self> {
        if bits == 0 {
            return None;
        }
        Some(Self {
            server_id: ServerIdOctets::new((bits >> 8) as u8),
        })
    }
}

/// Bits of the kernel's hash that are kept of a flow: enough for the slots of a group.
const PLACE_BITS: u32 = 20;
const PLACE: u32 = !(u32::MAX >> PLACE_BITS);
const BEGAN: u64 = u64::MAX >> PLACE_BITS;

/// Where a flow is: the second word of its value, in both maps.
///
/// The hash that found the socket is kept, because the hash of another address would find another
/// socket of the same generation. Where no ids are looked at it is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The tick it began at.
    pub began: u64,
    /// The upper bits of the hash, the others being 0.
    pub hash: u32,
}

impl Place {
    /// The word.
    #[inline(always)]
    pub const fn to_bits(self) -> u64 {
        (self.hash & PLACE) as u64 >> (32 - PLACE_BITS) << (64 - PLACE_BITS) | self.began & BEGAN
    }

    /// What the word says.
    #[inline(always)]
    pub const fn from_bits(bits: u64) -> Self {
        Self {
            began: bits & BEGAN,
            hash: (bits >> 32) as u32 & PLACE,
        }
    }
}

/// What is known of a flow, or of a connection's id. Plain words and no `Option` of it: the compiler
/// would copy what is in none of them, which the verifier refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Whose it is; no generation if nothing is known.
    pub flow: Flow,
    /// The hash that finds its socket.
    pub hash: u32,
}

impl Known {
    /// Nothing.
    pub const NOTHING: Self = Self {
        flow: Flow {
            generation: None,
            seen: 0,
        },
        hash: 0,
    };

    /// Whose it is, if that still holds.
    #[inline(always)]
    fn holds(&self, now: u64, rules: &FlowRules) -> Option<GenerationId> {
        if rules.holds(self.flow, now) {
            self.flow.generation
        } else {
            None
        }
    }

    /// What becomes of the entry when another datagram comes.
    #[inline(always)]
    const fn goes_on(&self, now: u64, rules: &FlowRules) -> Entry {
        if self.flow.idle(now) > rules.refresh {
            Entry::Refreshed
        } else {
            Entry::Stays
        }
    }
}

/// What is known of a datagram of QUIC.
#[derive(Clone, Copy, Debug)]
pub struct Sight {
    /// What the table says of its four-tuple.
    pub tuple: Known,
    /// The id in it.
    pub id: Option<ConnectionId>,
    /// What was learned of the id.
    pub learned: Known,
}

/// Where a datagram's connection is, and what is written down once it went there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Its generation.
    pub generation: GenerationId,
    /// The hash that finds its socket.
    pub hash: u32,
    /// What becomes of the four-tuple's entry. One that is written is that of a connection which goes
    /// on under an address that it did not have before.
    pub tuple: Entry,
    /// What becomes of the id's entry.
    pub id: Entry,
}

impl Way {
    const TUPLE_WRITTEN: u64 = 1 << 20;
    const ID_WRITTEN: u64 = 1 << 21;

    /// The way as one word, in which [`Entry::Refreshed`] is as good as nothing: that is done at once.
    /// 0 for none.
    #[inline(always)]
    pub fn to_bits(way: Option<Self>) -> u64 {
        let Some(way) = way else {
            return 0;
        };
        let mut bits = u64::from(way.hash) << 32 | u64::from(way.generation.raw());
        if way.tuple == Entry::Written {
            bits |= Self::TUPLE_WRITTEN;
        }
        if way.id == Entry::Written {
            bits |= Self::ID_WRITTEN;
        }
        bits
    }

    /// What the word says.
    #[inline(always)]
    pub fn from_bits(bits: u64) -> Option<Self> {
        let entry = |mask| {
            if bits & mask == 0 {
                Entry::Stays
            } else {
                Entry::Written
            }
        };
        Some(Self {
            generation: GenerationId::new((bits & 0xf_ffff) as u32)?,
            hash: (bits >> 32) as u32,
            tuple: entry(Self::TUPLE_WRITTEN),
            id: entry(Self::ID_WRITTEN),
        })
    }

    /// Whether [`Self::go`] is followed by an entry that is written.
    #[inline(always)]
    pub fn is_news(self) -> bool {
        self.tuple == Entry::Written || self.id == Entry::Written
    }

    /// Goes it; false if the generation has no socket there any more.
    #[inline(always)]
    pub fn go<G: Group>(self, request: &mut Request, group: &mut G) -> bool {
        let own = request.hash;
        request.hash = self.hash;
        let went = within(Some(self.generation), request, group).is_some();
        request.hash = own;
        went
    }
}

/// What follows from a datagram that went where new flows go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Whether its connection was with another generation, and not idle.
    pub moved: bool,
    /// Whether its id is that generation's from here on.
    pub id: bool,
}

/// The part of the kernel's hash that chooses among the sockets of a generation where ids are looked
/// at: as much as is kept of a flow.
#[inline(always)]
pub const fn place(hash: u32) -> u32 {
    hash & PLACE
}

/// Where a datagram of QUIC belongs; `None` if that is nowhere, and it goes where new flows do. `hash`
/// is the [`place`] of its own addresses. A ticket goes before all that.
///
/// What was learned of its id goes first: it stays true when the client's address changes. The
/// four-tuple is next, because a client may take another id without another address. What the id
/// itself says counts only for an address without a flow, so that ids of servers that were not told
/// to say anything lead nobody away from where it is.
#[inline(always)]
pub fn way<G: Group>(
    hash: u32,
    sight: &Sight,
    now: u64,
    rules: (&FlowRules, Quic),
    group: &mut G,
) -> Option<Way> {
    let (rules, quic) = rules;
    let open = |known: &Known| {
        let generation = known.holds(now, rules)?;
        (!rules.closed.has(generation)).then_some(generation)
    };
    if let Some(generation) = open(&sight.learned) {
        let hash = sight.learned.hash;
        return Some(Way {
            generation,
            hash,
            tuple: tuple_entry(generation, hash, sight, now, rules),
            id: sight.learned.goes_on(now, rules),
        });
    }
    let id = if sight.id.is_some_and(ConnectionId::teaches) {
        Entry::Written
    } else {
        Entry::Stays
    };
    if let Some(generation) = open(&sight.tuple) {
        return Some(Way {
            generation,
            hash: sight.tuple.hash,
            tuple: sight.tuple.goes_on(now, rules),
            id,
        });
    }
    let generation = encoded(sight.id?, quic.server_id?, group)?;
    if rules.closed.has(generation) {
        return None;
    }
    Some(Way {
        generation,
        hash,
        tuple: Entry::Written,
        id,
    })
}

/// The generation that the id itself names, if it is there.
#[inline(always)]
fn encoded<G: Group>(
    id: ConnectionId,
    octets: ServerIdOctets,
    group: &mut G,
) -> Option<GenerationId> {
    let said = id.server_id(octets)?;
    let generation = group.seat(said % SEATS).generation?;
    (octets.of(generation) == said).then_some(generation)
}

#[inline(always)]
fn tuple_entry(
    generation: GenerationId,
    hash: u32,
    sight: &Sight,
    now: u64,
    rules: &FlowRules,
) -> Entry {
    if sight.tuple.holds(now, rules) == Some(generation) && sight.tuple.hash == hash {
        sight.tuple.goes_on(now, rules)
    } else {
        Entry::Written
    }
}

/// What follows from a datagram that had no [`way`], or one that ends, and that went to `generation` then.
#[inline(always)]
pub fn begins(generation: GenerationId, sight: &Sight, now: u64, rules: &FlowRules) -> Begun {
    let was = sight.learned.holds(now, rules);
    let was = was.or(sight.tuple.holds(now, rules));
    Begun {
        moved: was.is_some_and(|was| was != generation),
        // An id that nothing is known of is not learned from a datagram that belongs nowhere.
        id: sight.learned.flow.generation.is_some(),
    }
}

#[cfg(test)]
mod tests;
