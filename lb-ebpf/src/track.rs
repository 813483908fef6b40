//! `track`: counts each generation's connections as they open and close.
//!
//! A connection knows its generation from the tag its listener carried; see `maps::TAGS`. A
//! connection that moved from a closing listener is looked up by its cookie instead.

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    bindings::{
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG,
        BPF_TCP_CLOSE, BPF_TCP_ESTABLISHED, BPF_TCP_SYN_RECV,
    },
    helpers::{bpf_get_socket_cookie, bpf_sk_storage_get},
    macros::sock_ops,
    programs::SockOpsContext,
};
use lb_common::{ConnectionCell, EventKind, GenerationId, SteeringWord, Tag, steering};

use crate::{
    atomic, events,
    maps::{CONNECTIONS, LIVE, MOVED, STEERING, TAGS},
};

#[sock_ops]
pub fn track(ctx: SockOpsContext) -> u32 {
    match ctx.op() {
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => opened(&ctx),
        BPF_SOCK_OPS_STATE_CB if ctx.arg(1) == BPF_TCP_CLOSE => closed(&ctx, ctx.arg(0)),
        _ => {}
    }
    1
}

#[inline(always)]
fn opened(ctx: &SockOpsContext) {
    let Some(tag) = tag(ctx) else {
        return;
    };
    if ctx.set_cb_flags(BPF_SOCK_OPS_STATE_CB_FLAG as i32).is_err() {
        return; // it would never be counted as closed
    }
    count(tag.seat(), ConnectionCell::Opened);
    enter(tag.seat());
}

#[inline(always)]
fn closed(ctx: &SockOpsContext, former: u32) {
    let Some(tag) = tag(ctx) else {
        return;
    };
    let generation = match moved_to(ctx) {
        Some(raw) => GenerationId::new(raw),
        None => tag.generation,
    };
    let seat = generation.map_or(0, GenerationId::seat);
    count(seat, ConnectionCell::Closed);
    if former == BPF_TCP_ESTABLISHED || former == BPF_TCP_SYN_RECV {
        count(seat, ConnectionCell::Aborted);
    }
    if leave(seat) == 1 {
        idle(generation);
    }
}

#[inline(always)]
fn tag(ctx: &SockOpsContext) -> Option<Tag> {
    // SAFETY: reading the field has the verifier track it; it is read once, for a second read
    // would be a pointer not known to be non-null.
    let socket = unsafe { (*ctx.ops).__bindgen_anon_2.sk };
    if socket.is_null() {
        return None;
    }
    let map = ptr::from_ref(&TAGS).cast_mut().cast::<c_void>();
    // SAFETY: a socket that is not null and the program's own map; without a flag the helper
    // only looks up.
    let bits = unsafe { bpf_sk_storage_get(map, socket.cast(), ptr::null_mut(), 0) }.cast::<u64>();
    if bits.is_null() {
        return None;
    }
    // SAFETY: not null, aligned, and valid until the program ends.
    Some(Tag::from_bits(unsafe { *bits }))
}

/// Where the connection moved to, if it ever moved.
#[inline(always)]
fn moved_to(ctx: &SockOpsContext) -> Option<u32> {
    let row = STEERING.get_ptr(0)?;
    // SAFETY: within the row and aligned.
    if unsafe { row.cast::<u64>().add(steering::MOVES).read_volatile() } == 0 {
        return None;
    }
    // SAFETY: the helper takes the context itself.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.ops.cast()) };
    // SAFETY: the value is a copied integer.
    let to = unsafe { MOVED.get(&cookie) }.copied()?;
    // A failure means the entry was evicted meanwhile: gone either way.
    let _gone = MOVED.remove(&cookie);
    Some(to)
}

/// Adds one to a count of the seat.
#[inline(always)]
pub fn count(seat: u32, cell: ConnectionCell) {
    if let Some(row) = CONNECTIONS.get_ptr_mut(seat) {
        // SAFETY: within the row and aligned. Atomic although it is this CPU's own, because
        // `steer` and `track` may interrupt each other.
        unsafe { atomic::fetch_add(row.cast::<u64>().add(cell.index()), 1) };
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
