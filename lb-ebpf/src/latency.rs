//! `received` and `sent`: how long clients wait, from the server's own reads and writes.
//!
//! Attached to the kernel's `sock_recv_length` and `sock_send_length` (6.3), which every socket of
//! the host passes; those without a row in the table of recent connections are left at once.

use aya_ebpf::{
    helpers::bpf_get_socket_cookie, macros::btf_tracepoint, programs::BtfTracePointContext,
};
use lb_common::{
    Latency,
    recent::{ASKED, OPENED, Said},
};

use crate::recent::{Row, now, observe};

/// `MSG_PEEK`: the data stays where it is.
const PEEK: i32 = 2;

#[btf_tracepoint(function = "sock_recv_length")]
pub fn received(ctx: BtfTracePointContext) -> i32 {
    let (length, flags): (i32, i32) = (ctx.arg(1), ctx.arg(2));
    if length <= 0 || flags & PEEK != 0 {
        return 0;
    }
    let Some(row) = row(&ctx) else { return 0 };
    let last = row.last();
    if last.said == Said::Request {
        return 0; // more of the same one
    }
    let now = now();
    if last.said == Said::Nothing {
        let wait = now.wrapping_sub(row.load(OPENED));
        observe(Latency::QueueWait, last.seat, wait);
    }
    row.store(ASKED, now);
    row.turn(last.seat, Said::Request);
    0
}

#[btf_tracepoint(function = "sock_send_length")]
pub fn sent(ctx: BtfTracePointContext) -> i32 {
    let length: i32 = ctx.arg(1);
    if length <= 0 {
        return 0;
    }
    let Some(row) = row(&ctx) else { return 0 };
    let last = row.last();
    if last.said != Said::Request {
        return 0; // more of the same answer, or the server speaks first
    }
    let took = now().wrapping_sub(row.load(ASKED));
    observe(Latency::ServiceTime, last.seat, took);
    row.turn(last.seat, Said::Answer);
    0
}

#[inline(always)]
fn row(ctx: &BtfTracePointContext) -> Option<Row> {
    let socket: *mut core::ffi::c_void = ctx.arg(0);
    // SAFETY: the tracepoint's first argument is a socket.
    Row::find(unsafe { bpf_get_socket_cookie(socket) })
}
