//! `track`: counts each generation's connections as they open and close.
//!
//! An instance is attached to each generation's cgroup and knows that generation as a constant: a
//! connection belongs to the cgroup of the listener it came through. A connection that moved from
//! a closing listener is looked up by its cookie instead.

use aya_ebpf::{
    Global,
    bindings::{
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_RTO_CB_FLAG, BPF_SOCK_OPS_STATE_CB,
        BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_LISTEN_CB, BPF_TCP_CLOSE, BPF_TCP_CLOSE_WAIT,
        BPF_TCP_ESTABLISHED, BPF_TCP_LISTEN, BPF_TCP_SYN_RECV,
    },
    helpers::bpf_get_socket_cookie,
    macros::sock_ops,
    programs::SockOpsContext,
};
use lb_common::{
    ConnectionCell, EventKind, GenerationId, Latency, SteeringWord, recent::OPENED, steering,
};

use crate::{
    atomic, ending, events,
    maps::{CONNECTIONS, LIVE, LOADS, MOVED, PORTS, STEERING, TRANSPARENT, WORKER},
    recent::{self, Row, observe},
    reload,
};

#[sock_ops]
pub fn track(ctx: SockOpsContext) -> u32 {
    match ctx.op() {
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => opened(&ctx),
        BPF_SOCK_OPS_STATE_CB => turned(&ctx, ctx.arg(0), ctx.arg(1)),
        BPF_SOCK_OPS_TCP_LISTEN_CB => reload::listens(&ctx, own()),
        _ => {}
    }
    1
}

/// From one state to another.
#[inline(always)]
fn turned(ctx: &SockOpsContext, former: u32, state: u32) {
    if former == BPF_TCP_LISTEN {
        return reload::closes(ctx, own());
    }
    if former == BPF_TCP_SYN_RECV && ctx.cb_flags() & COUNTED == 0 {
        return;
    }
    // Its worker is free once the server has closed its side, however long the client takes.
    if is_served(former) && !is_served(state) {
        load(ctx, 1_u64.wrapping_neg());
    }
    if state == BPF_TCP_CLOSE {
        closed(ctx, former);
    }
}

/// Whether the server may still answer on a connection in this state.
#[inline(always)]
const fn is_served(state: u32) -> bool {
    matches!(
        state,
        BPF_TCP_SYN_RECV | BPF_TCP_ESTABLISHED | BPF_TCP_CLOSE_WAIT
    )
}

/// A connection inherits its listener's flags, of which this is none: it tells one that was counted
/// from one that ended before that. What it asks for, a call at each retransmission timeout, is
/// rare and passed over.
const COUNTED: u32 = BPF_SOCK_OPS_RTO_CB_FLAG;

/// The generation this instance counts for; 0 for the parking listener. The agent sets it before
/// it loads the program.
#[unsafe(no_mangle)]
static GENERATION: Global<u32> = Global::new(0);

#[inline(always)]
fn own() -> Option<GenerationId> {
    GenerationId::new(GENERATION.load())
}

#[inline(always)]
fn opened(ctx: &SockOpsContext) {
    // The generation may listen on other ports too, which are not the service's.
    if PORTS.get_ptr(ctx.local_port()).is_none() && TRANSPARENT.get(ctx).is_none() {
        // Its end is not to be counted either: the listener asked for that call for itself.
        let _unchanged = ctx.set_cb_flags((ctx.cb_flags() & !BPF_SOCK_OPS_STATE_CB_FLAG) as i32);
        return;
    }
    // With those that others want: they are one word a connection.
    let flags = ctx.cb_flags() | BPF_SOCK_OPS_STATE_CB_FLAG | COUNTED;
    if ctx.set_cb_flags(flags as i32).is_err() {
        return; // it would never be counted as closed
    }
    let seat = own().map_or(0, GenerationId::seat);
    count(seat, ConnectionCell::Opened);
    enter(seat);
    load(ctx, 1);
    Row::open(cookie(ctx), seat);
}

#[inline(always)]
fn closed(ctx: &SockOpsContext, former: u32) {
    let cookie = cookie(ctx);
    let generation = match moved_to(cookie) {
        Some(raw) => GenerationId::new(raw),
        None => own(),
    };
    let seat = generation.map_or(0, GenerationId::seat);
    count(seat, ConnectionCell::Closed);
    if former == BPF_TCP_ESTABLISHED || former == BPF_TCP_SYN_RECV {
        count(seat, ConnectionCell::Aborted);
    }
    if let Some(row) = Row::find(cookie) {
        let lifetime = recent::now().wrapping_sub(row.load(OPENED));
        observe(Latency::Lifetime, seat, lifetime);
    }
    if let Some(ending) = ending::of(ctx, former) {
        add(seat, ConnectionCell::BytesReceived, ending.received_bytes());
        add(seat, ConnectionCell::BytesSent, ending.sent_bytes());
        if let Some(cell) = ending.cell() {
            count(seat, cell);
        }
    }
    if leave(seat) == 1 {
        idle(generation);
    }
}

#[inline(always)]
pub fn cookie(ctx: &SockOpsContext) -> u64 {
    // SAFETY: the helper takes the context itself.
    unsafe { bpf_get_socket_cookie(ctx.ops.cast()) }
}

/// Where the connection moved to, if it ever moved.
#[inline(always)]
fn moved_to(cookie: u64) -> Option<u32> {
    let row = STEERING.get_ptr(0)?;
    // SAFETY: within the row and aligned.
    if unsafe { row.cast::<u64>().add(steering::MOVES).read_volatile() } == 0 {
        return None;
    }
    // SAFETY: the value is a copied integer.
    let to = unsafe { MOVED.get(&cookie) }.copied()?;
    // A failure means the entry was evicted meanwhile: gone either way.
    let _gone = MOVED.remove(&cookie);
    Some(to)
}

/// Adds one to a count of the seat.
#[inline(always)]
pub fn count(seat: u32, cell: ConnectionCell) {
    add(seat, cell, 1);
}

#[inline(always)]
fn add(seat: u32, cell: ConnectionCell, amount: u64) {
    if let Some(row) = CONNECTIONS.get_ptr_mut(seat) {
        // SAFETY: within the row and aligned. Atomic although it is this CPU's own, because
        // `steer` and `track` may interrupt each other.
        unsafe { atomic::fetch_add(row.cast::<u64>().add(cell.index()), amount) };
    }
}

/// One more live connection at the seat.
#[inline(always)]
pub fn enter(seat: u32) {
    if let Some(live) = LIVE.get_ptr_mut(seat) {
        // SAFETY: a valid, aligned cell.
        unsafe { atomic::fetch_add(live, 1) };
    }
}

/// One live connection fewer; returns how many there were.
#[inline(always)]
pub fn leave(seat: u32) -> u64 {
    match LIVE.get_ptr_mut(seat) {
        // SAFETY: as in `enter`.
        Some(live) => unsafe { atomic::fetch_add(live, 1_u64.wrapping_neg()) },
        None => 0,
    }
}

/// One connection more or fewer of the listener it came through. A connection that has the
/// listener's slot has it from its first moment to its last, so the sum is right.
#[inline(always)]
fn load(ctx: &SockOpsContext, change: u64) {
    if let Some(load) = WORKER
        .get(ctx)
        .and_then(|slot| LOADS.get_ptr_mut(slot as u32))
    {
        // SAFETY: a valid, aligned cell.
        unsafe { atomic::fetch_add(load, change) };
    }
}

/// Tells the agent that a generation has no connection left, unless it is the active one.
#[inline(always)]
fn idle(generation: Option<GenerationId>) {
    let (Some(generation), Some(row)) = (generation, STEERING.get_ptr(0)) else {
        return;
    };
    // SAFETY: within the row and aligned.
    let word = unsafe { row.cast::<u64>().add(steering::WORD).read_volatile() };
    if SteeringWord::from_bits(word).active != Some(generation) {
        events::send(EventKind::Idle, generation.raw());
    }
}
