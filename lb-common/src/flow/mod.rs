//! Flows: which generation a UDP client is with.
//!
//! UDP has no connections, so the kernel remembers for each four-tuple who answered it last. A flow
//! stays with its generation until it is idle, its generation can take it no longer, or the agent has
//! closed the generation to its flows (the drain's deadline).

use core::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::{
    choose::{Group, Request, choose, within},
    exit::Exit,
    generation::{GenerationId, raw_or_zero},
    seat_set::SeatSet,
    ticket::address_words,
};

pub mod quic;

/// The key of a flow: nine words, without padding. IPv4 addresses stand as IPv4-mapped ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowKey {
    /// The client's address, in host-order words.
    pub client: [u32; 4],
    /// The server's address, as the client named it.
    pub server: [u32; 4],
    /// The client's port.
    pub client_port: u16,
    /// The server's port.
    pub server_port: u16,
}

impl FlowKey {
    /// Length of the key in words.
    pub const WORDS: usize = 9;

    /// The key of datagrams from `client` to `server`.
    pub fn new(client: SocketAddr, server: SocketAddr) -> Self {
        Self {
            client: address_words(client.ip()),
            server: address_words(server.ip()),
            client_port: client.port(),
            server_port: server.port(),
        }
    }

    /// The key as the map holds it.
    #[inline(always)]
    pub const fn to_words(self) -> [u32; Self::WORDS] {
        let [c0, c1, c2, c3] = self.client;
        let [s0, s1, s2, s3] = self.server;
        let ports = (self.client_port as u32) << 16 | self.server_port as u32;
        [c0, c1, c2, c3, s0, s1, s2, s3, ports]
    }

    /// The key these words say.
    pub const fn from_words(words: &[u32; Self::WORDS]) -> Self {
        let &[c0, c1, c2, c3, s0, s1, s2, s3, ports] = words;
        Self {
            client: [c0, c1, c2, c3],
            server: [s0, s1, s2, s3],
            client_port: (ports >> 16) as u16,
            server_port: ports as u16,
        }
    }

    /// The client.
    pub fn client(&self) -> SocketAddr {
        SocketAddr::new(address(self.client), self.client_port)
    }

    /// Where it sends to.
    pub fn server(&self) -> SocketAddr {
        SocketAddr::new(address(self.server), self.server_port)
    }
}

fn address([a, b, c, d]: [u32; 4]) -> IpAddr {
    let bits = u128::from(a) << 96 | u128::from(b) << 64 | u128::from(c) << 32 | u128::from(d);
    Ipv6Addr::from_bits(bits).to_canonical()
}

/// Nanoseconds are counted in ticks of 2^20 of them: 1.05 ms.
const TICK_SHIFT: u32 = 20;

/// The ticks in so many nanoseconds.
#[inline(always)]
pub const fn ticks(nanoseconds: u64) -> u64 {
    nanoseconds >> TICK_SHIFT
}

/// The nanoseconds of so many ticks.
pub const fn nanoseconds(ticks: u64) -> u64 {
    ticks << TICK_SHIFT
}

/// Words of a flow's value: [`Flow`], and its [`quic::Place`].
pub const FLOW_WORDS: usize = 2;

const TICKS: u64 = (1 << 44) - 1;

/// Whose a flow is, and when its last datagram came: one word, so that both are of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Its generation; `None` for a word that says none.
    pub generation: Option<GenerationId>,
    /// The tick of its last datagram, to [`FlowRules::refresh`] ticks.
    pub seen: u64,
}

impl Flow {
    /// The flow as the map holds it.
    #[inline(always)]
    pub const fn to_bits(self) -> u64 {
        (self.seen & TICKS) << 20 | raw_or_zero(self.generation) as u64
    }

    /// The flow these bits say.
    #[inline(always)]
    pub const fn from_bits(bits: u64) -> Self {
        Self {
            generation: GenerationId::new((bits & 0xf_ffff) as u32),
            seen: bits >> 20,
        }
    }

    /// How many ticks ago its last datagram came.
    #[inline(always)]
    pub const fn idle(self, now: u64) -> u64 {
        // Another CPU may have written a later tick.
        now.saturating_sub(self.seen)
    }
}

/// Cells of a service's row of rules; one cache line.
pub const FLOW_CELLS: usize = 8;
/// After how many ticks without a datagram a flow is none any more; 0 for a service without flows.
pub const FLOW_IDLE: usize = 0;
/// After how many ticks a flow's last datagram is written down anew.
pub const FLOW_REFRESH: usize = 1;
/// The lower cell of the [`SeatSet`] of generations that keep no flow: at their drains' deadlines.
pub const FLOW_CLOSED: usize = 2;
/// How many entries the agent has removed, of flows that were idle.
pub const FLOW_REMOVED: usize = 3;
/// How many entries gave way to others, as far as the agent knows.
pub const FLOW_EVICTED: usize = 4;

/// Whether, and how, connections of QUIC are told apart, see [`quic::Quic`].
pub const FLOW_QUIC: usize = 5;

/// The upper cell of [`FLOW_CLOSED`]'s set.
pub const FLOW_CLOSED_UPPER: usize = 6;

/// The rules, as one call reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowRules {
    /// [`FLOW_IDLE`]
    pub idle: u64,
    /// [`FLOW_REFRESH`]
    pub refresh: u64,
    /// [`FLOW_CLOSED`], [`FLOW_CLOSED_UPPER`]
    pub closed: SeatSet,
}

impl FlowRules {
    /// The rules of a service whose flows are idle after so many nanoseconds. The last datagram is
    /// written down to an eighth of that, and at most to a second.
    pub const fn of(idle_nanoseconds: u64) -> Self {
        let idle = ticks(idle_nanoseconds);
        let second = ticks(1_000_000_000);
        let eighth = idle / 8;
        Self {
            idle: if idle == 0 { 1 } else { idle },
            refresh: if eighth < second { eighth } else { second },
            closed: SeatSet::EMPTY,
        }
    }

    /// Whether a flow is still one at tick `now`.
    #[inline(always)]
    pub const fn holds(&self, flow: Flow, now: u64) -> bool {
        flow.idle(now) <= self.idle
    }
}

/// How one call of `steer_udp` ended, and what it did to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steered {
    /// The way out.
    pub exit: FlowExit,
    /// The generation that got the datagram.
    pub generation: Option<GenerationId>,
    /// What is written down.
    pub entry: Entry,
    /// Whether the flow was with another generation, and not idle.
    pub moved: bool,
}

/// What becomes of a flow's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Nothing.
    Stays,
    /// The moment of its last datagram.
    Refreshed,
    /// The flow is new, or another generation's from here on.
    Written,
}

/// Chooses for a datagram: `known` is what the table says of its flow. A ticket goes before a flow,
/// and makes none.
#[inline(always)]
pub fn choose_datagram<G: Group>(
    request: &Request,
    known: Option<Flow>,
    now: u64,
    rules: &FlowRules,
    group: &mut G,
) -> Steered {
    if request.ticket.is_none()
        && let Some(flow) = known
        && let Some(generation) = flow.generation
        && rules.holds(flow, now)
        && !rules.closed.has(generation)
        && within(Some(generation), request, group).is_some()
    {
        return Steered {
            exit: FlowExit::Kept,
            generation: Some(generation),
            entry: if flow.idle(now) > rules.refresh {
                Entry::Refreshed
            } else {
                Entry::Stays
            },
            moved: false,
        };
    }
    let (exit, generation) = first(request, group);
    let written = generation.is_some() && exit != FlowExit::Ticket;
    let was = known.filter(|&flow| rules.holds(flow, now));
    Steered {
        exit,
        generation,
        entry: if written {
            Entry::Written
        } else {
            Entry::Stays
        },
        moved: written && was.is_some_and(|flow| flow.generation != generation),
    }
}

/// Chooses for a datagram that belongs to no flow, and says whose it is.
#[inline(always)]
pub fn first<G: Group>(request: &Request, group: &mut G) -> (FlowExit, Option<GenerationId>) {
    let mut noted = Noted { group, last: None };
    let exit = FlowExit::from(choose(request, &mut noted));
    let to = if exit == FlowExit::Nobody {
        None
    } else {
        noted.last
    };
    (exit, to)
}

/// A group that remembers whose row was read last: whose socket is selected after it.
struct Noted<'a, G> {
    group: &'a mut G,
    last: Option<GenerationId>,
}

impl<G: Group> Group for Noted<'_, G> {
    #[inline(always)]
    fn seat(&mut self, seat: u32) -> crate::SeatRow {
        let row = self.group.seat(seat);
        self.last = row.generation;
        row
    }

    #[inline(always)]
    fn select(&mut self, slot: u32) -> bool {
        // There is no parking for datagrams: nobody would ever read them.
        slot != crate::PARKING_SLOT && self.group.select(slot)
    }

    #[inline(always)]
    fn load(&mut self, slot: u32) -> u64 {
        self.group.load(slot)
    }

    #[inline(always)]
    fn cpu(&mut self) -> u32 {
        self.group.cpu()
    }

    #[inline(always)]
    fn fresh(&mut self, _generation: GenerationId) -> bool {
        // `listen` is what tells the kernel's programs of a new socket; UDP has none.
        false
    }

    #[inline(always)]
    fn reopens(&mut self, _generation: GenerationId) -> bool {
        false
    }
}

/// The ways out of `steer_udp`, each of them counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum FlowExit {
    /// The generation its flow is with.
    Kept = 0,
    /// The active generation.
    Active = 1,
    /// The candidate, because the client belongs to its share.
    Candidate = 2,
    /// The generation a ticket names.
    Ticket = 3,
    /// The wanted generation, but a neighbour of the slot the hash names.
    Neighbour = 4,
    /// The other live generation: the wanted one has no socket left.
    OtherGeneration = 5,
    /// No generation can take it: the datagram is dropped, and the client told so by ICMP.
    Nobody = 6,
}

impl From<Exit> for FlowExit {
    #[inline(always)]
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Active => Self::Active,
            Exit::Candidate => Self::Candidate,
            Exit::Ticket => Self::Ticket,
            Exit::Neighbour => Self::Neighbour,
            Exit::OtherGeneration => Self::OtherGeneration,
            Exit::Parked | Exit::Unselected => Self::Nobody,
        }
    }
}

/// Length of the per-CPU row that counts: calls, each exit, then what happened to the table.
pub const FLOW_COUNTS: usize = 16;

const KINDS: usize = 7;

impl FlowExit {
    /// All of them, in the order of their cells.
    pub const ALL: [Self; KINDS] = [
        Self::Kept,
        Self::Active,
        Self::Candidate,
        Self::Ticket,
        Self::Neighbour,
        Self::OtherGeneration,
        Self::Nobody,
    ];

    /// The cell that counts the calls.
    pub const CALLS: usize = 0;
    /// The cell that counts flows that began.
    pub const BEGUN: usize = 1 + KINDS;
    /// The cell that counts flows that went to another generation than they were with, although
    /// they were not idle: that one could not take them any more.
    pub const MOVED: usize = 2 + KINDS;
    /// The cell that counts flows for which the kernel made no entry.
    pub const UNWRITTEN: usize = 3 + KINDS;
    /// The cell that counts entries that were made. Those that are neither in the table nor were
    /// removed by the agent gave way to others: the table was too small.
    pub const MADE: usize = 4 + KINDS;
    /// The cell that counts connections of QUIC that went on under another address.
    pub const READDRESSED: usize = 5 + KINDS;

    /// The cell that counts this exit.
    #[inline(always)]
    pub const fn cell(self) -> usize {
        1 + self as usize
    }

    /// The name in metrics and `status`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Active => "active",
            Self::Candidate => "candidate",
            Self::Ticket => "ticket",
            Self::Neighbour => "neighbour",
            Self::OtherGeneration => "other_generation",
            Self::Nobody => "nobody",
        }
    }
}

#[cfg(test)]
mod tests;
