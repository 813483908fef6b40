//! `steer_udp`: chooses the socket of each datagram.
//!
//! The choice itself is [`lb_common::choose_datagram`]. This file reads what it needs, writes flows
//! down and counts. It drops in one case only: no generation can take the datagram. The kernel then
//! answers by ICMP that nobody is there, as without hotlb; its hash would lead the client to a
//! candidate that nobody has promoted.

use aya_ebpf::{
    bindings::sk_action::{SK_DROP, SK_PASS},
    helpers::bpf_ktime_get_coarse_ns,
    macros::sk_reuseport,
    programs::SkReuseportContext,
};
use lb_common::{
    Entry, FLOW_CELLS, FLOW_CLOSED, FLOW_CLOSED_UPPER, FLOW_COUNTS, FLOW_IDLE, FLOW_QUIC,
    FLOW_REFRESH, FLOW_WORDS, Flow, FlowExit, FlowKey, FlowRules, GenerationId, Request, SeatSet,
    Workers, choose_datagram, first,
    quic::{Place, Quic, place},
    ticks,
};

use crate::{
    maps::{DATAGRAMS, FLOW_RULES, FLOWS, STEERING},
    packet, quic,
    steer::{Slots, request},
};

#[sk_reuseport(migrate)]
pub fn steer_udp(ctx: SkReuseportContext) -> u32 {
    let (Some(row), Some(counts)) = (STEERING.get_ptr(0), DATAGRAMS.get_ptr_mut(0)) else {
        return SK_PASS; // never: the maps have this entry
    };
    let counts = counts.cast::<u64>();
    let mut request = Request {
        // A flow stays with its socket; a CPU or a count of connections would lead it about.
        workers: Workers::Hash,
        ..request(&ctx, row, false)
    };
    let mut group = Slots::of(&ctx);
    let exit = match rules() {
        Some((rules, quic)) => {
            if quic.is_some() {
                request.hash = place(request.hash);
            }
            with_flows(
                &ctx,
                &mut request,
                (&rules, quic.is_some()),
                &mut group,
                counts,
            )
        }
        None => first(&request, &mut group).0,
    };
    count(counts, FlowExit::CALLS);
    count(counts, exit.cell());
    if exit == FlowExit::Nobody {
        SK_DROP
    } else {
        SK_PASS
    }
}

/// The service's rules, and those of QUIC if it has any; `None` for one without flows.
#[inline(always)]
pub fn rules() -> Option<(FlowRules, Option<Quic>)> {
    let row = FLOW_RULES.get_ptr(0)?.cast::<u64>();
    // SAFETY: `index` is a constant below FLOW_CELLS; the agent stores cells whole.
    let cell = |index: usize| unsafe { row.add(index).read_volatile() };
    const _: () = assert!(FLOW_QUIC < FLOW_CELLS && FLOW_CLOSED_UPPER < FLOW_CELLS);
    let idle = cell(FLOW_IDLE);
    let rules = || FlowRules {
        idle,
        refresh: cell(FLOW_REFRESH),
        closed: SeatSet::from_cells(cell(FLOW_CLOSED), cell(FLOW_CLOSED_UPPER)),
    };
    (idle != 0).then(|| (rules(), Quic::from_bits(cell(FLOW_QUIC))))
}

#[inline(always)]
fn with_flows(
    ctx: &SkReuseportContext,
    request: &mut Request,
    (rules, is_quic): (&FlowRules, bool),
    group: &mut Slots<'_>,
    counts: *mut u64,
) -> FlowExit {
    let Some(key) = packet::four_tuple(ctx).map(FlowKey::to_words) else {
        return first(request, group).0;
    };
    if is_quic {
        return quic::with_ids(ctx, request, &key, group);
    }
    let now = now();
    let entry = FLOWS
        .get_ptr_mut(&key)
        .map(<*mut [u64; FLOW_WORDS]>::cast::<u64>);
    // SAFETY: a valid pointer to an aligned word; writers store it whole.
    let known = entry.map(|entry| Flow::from_bits(unsafe { entry.read_volatile() }));
    let steered = choose_datagram(request, known, now, rules, group);
    match (steered.entry, entry) {
        (Entry::Stays, _) => {}
        (Entry::Refreshed, Some(entry)) => refresh(entry, steered.generation, now),
        (Entry::Refreshed | Entry::Written, entry) => {
            let how = if steered.moved {
                FlowExit::MOVED
            } else {
                FlowExit::BEGUN
            };
            let value = value(steered.generation, 0, now);
            write(&key, &value, entry.is_none(), how, counts);
        }
    }
    steered.exit
}

/// This moment, in ticks.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper only reads.
    ticks(unsafe { bpf_ktime_get_coarse_ns() })
}

/// The value of a flow, or of an id, as of now.
#[inline(always)]
pub fn value(generation: Option<GenerationId>, hash: u32, now: u64) -> [u64; FLOW_WORDS] {
    let flow = Flow {
        generation,
        seen: now,
    };
    [flow.to_bits(), Place { began: now, hash }.to_bits()]
}

/// The last datagram came now.
#[inline(always)]
pub fn refresh(entry: *mut u64, generation: Option<GenerationId>, now: u64) {
    let flow = Flow {
        generation,
        seen: now,
    };
    // SAFETY: a valid pointer to an aligned word of the map's value.
    unsafe { entry.write_volatile(flow.to_bits()) };
}

/// The flow begins, or goes on with another generation, or a connection goes on as this flow; `how`
/// is the cell that counts which of them.
#[cold]
#[inline(never)]
pub fn write(
    key: &[u32; FlowKey::WORDS],
    value: &[u64; FLOW_WORDS],
    is_made: bool,
    how: usize,
    counts: *mut u64,
) {
    if FLOWS.insert(key, value, 0).is_err() {
        count(counts, FlowExit::UNWRITTEN);
        return;
    }
    if is_made {
        count(counts, FlowExit::MADE);
    }
    count(counts, how);
}

/// Adds one to a count of this CPU.
#[inline(always)]
fn count(counts: *mut u64, cell: usize) {
    const _: () = assert!(FlowExit::READDRESSED < FLOW_COUNTS);
    // SAFETY: `cell` is below FLOW_COUNTS; the row belongs to this CPU alone, and a program of this
    // type is not interrupted by another of its kind on it.
    unsafe { *counts.add(cell) += 1 };
}
