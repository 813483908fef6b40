//! Datagrams of services whose flows are connections of QUIC.
//!
//! Part of [`crate::steer_udp`], and out of its way: what it does without ids stays as short as it
//! was. The choice is [`lb_common::choose_quic`].

use aya_ebpf::programs::SkReuseportContext;
use lb_common::{
    Entry, FLOW_WORDS, Flow, FlowExit, FlowKey, GenerationId, Request, first,
    quic::{ConnectionId, Known, Place, Sight, Way, begins, way},
};

use crate::{
    maps::{CONNECTION_IDS, DATAGRAMS, FLOWS},
    packet,
    steer::Slots,
    steer_udp::{now, refresh, rules, value, write},
};

type Key = [u32; FlowKey::WORDS];

/// Chooses for a datagram, and writes down what follows from it about its addresses and its id. The
/// request's hash is a [`lb_common::quic::place`].
///
/// What reads and writes the maps is apart, and finds the rules and counts by itself: the verifier adds
/// up the stacks of a chain of calls, and goes on from each way through what is in one piece.
#[inline(always)]
pub fn with_ids(
    ctx: &SkReuseportContext,
    request: &mut Request,
    key: &Key,
    group: &mut Slots<'_>,
) -> FlowExit {
    if request.ticket.is_none()
        && let Some(way) = Way::from_bits(find(ctx, key, request.hash))
        && way.go(request, group)
    {
        if way.is_news() {
            follow(ctx, key, Way::to_bits(Some(way)));
        }
        return FlowExit::Kept;
    }
    let (exit, generation) = first(request, group);
    if let Some(generation) = generation
        && exit != FlowExit::Ticket
    {
        begin(ctx, key, generation, request.hash);
    }
    exit
}

/// The [`Way`] of a datagram. If it has one, what needs no more than that is written down already: if
/// the way ends, the entries are written anew anyhow.
#[inline(never)]
fn find(ctx: &SkReuseportContext, key: &Key, hash: u32) -> u64 {
    let Some((rules, Some(quic))) = rules() else {
        return 0;
    };
    let found = Found::of(ctx, key);
    let now = now();
    let rules = (&rules, quic);
    let Some(way) = way(hash, &found.sight(), now, rules, &mut Slots::of(ctx)) else {
        return 0;
    };
    if let (Entry::Refreshed, Some(entry)) = (way.id, found.learned) {
        refresh(entry, Some(way.generation), now);
    }
    if let (Entry::Refreshed, Some(entry)) = (way.tuple, found.tuple) {
        refresh(entry, Some(way.generation), now);
    }
    Way::to_bits(Some(way))
}

/// The datagram went its way; writes down what that says.
#[cold]
#[inline(never)]
fn follow(ctx: &SkReuseportContext, key: &Key, way: u64) {
    let Some(way) = Way::from_bits(way) else {
        return;
    };
    let value = value(Some(way.generation), way.hash, now());
    if way.id == Entry::Written
        && let Some(id) = packet::connection_id(ctx)
    {
        learn(id, &value);
    }
    if way.tuple == Entry::Written {
        let is_made = FLOWS.get_ptr_mut(key).is_none();
        note(key, &value, is_made, FlowExit::READDRESSED);
    }
}

/// The flow begins, or goes on with another generation.
#[cold]
#[inline(never)]
fn begin(ctx: &SkReuseportContext, key: &Key, generation: GenerationId, hash: u32) {
    let Some((rules, _)) = rules() else {
        return;
    };
    let found = Found::of(ctx, key);
    let now = now();
    let begun = begins(generation, &found.sight(), now, &rules);
    let value = value(Some(generation), hash, now);
    if begun.id
        && let Some(id) = found.id
    {
        learn(id, &value);
    }
    let how = if begun.moved {
        FlowExit::MOVED
    } else {
        FlowExit::BEGUN
    };
    note(key, &value, found.tuple.is_none(), how);
}

/// Writes the four-tuple down.
#[inline(always)]
fn note(key: &Key, value: &[u64; FLOW_WORDS], is_made: bool, how: usize) {
    if let Some(counts) = DATAGRAMS.get_ptr_mut(0) {
        write(key, value, is_made, how, counts.cast());
    }
}

/// The id in a datagram, and what the two maps have of it.
struct Found {
    id: Option<ConnectionId>,
    tuple: Option<*mut u64>,
    learned: Option<*mut u64>,
}

impl Found {
    #[inline(always)]
    fn of(ctx: &SkReuseportContext, key: &Key) -> Self {
        let id = packet::connection_id(ctx);
        let tuple = FLOWS.get_ptr_mut(key);
        let learned = id.and_then(|id| CONNECTION_IDS.get_ptr_mut(&id.key()));
        Self {
            id,
            tuple: tuple.map(<*mut [u64; FLOW_WORDS]>::cast::<u64>),
            learned: learned.map(<*mut [u64; FLOW_WORDS]>::cast::<u64>),
        }
    }

    #[inline(always)]
    fn sight(&self) -> Sight {
        Sight {
            tuple: known(self.tuple),
            id: self.id,
            learned: known(self.learned),
        }
    }
}

/// What an entry of either map says.
#[inline(always)]
fn known(entry: Option<*mut u64>) -> Known {
    let Some(entry) = entry else {
        return Known::NOTHING;
    };
    // SAFETY: a valid pointer to an aligned word; writers store it whole.
    let flow = Flow::from_bits(unsafe { entry.read_volatile() });
    // SAFETY: likewise, the second of FLOW_WORDS.
    let place = Place::from_bits(unsafe { entry.add(1).read_volatile() });
    Known {
        flow,
        hash: place.hash,
    }
}

/// Writes the id down. One that finds no room is known by its four-tuple still.
#[inline(always)]
fn learn(id: ConnectionId, value: &[u64; FLOW_WORDS]) {
    let _full = CONNECTION_IDS.insert(id.key(), value, 0);
}
