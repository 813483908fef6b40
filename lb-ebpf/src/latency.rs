//! `received` and `sent`: how long clients wait, from the server's own reads and writes.
//!
//! Attached to the kernel's `sock_recv_length` and `sock_send_length` (6.3), which every socket of
//! the host passes; those of other ports, or without a row in the table of recent connections, are
//! left at once.

use aya_ebpf::{Global, macros::btf_tracepoint, programs::BtfTracePointContext};
use lb_common::{
    Latency,
    recent::{ASKED, OPENED, Said, port_bit},
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

/// Offsets in the running kernel's `struct sock`: constants to the verifier, which checks that a
/// field of this size is there.
#[unsafe(no_mangle)]
static PORT_AT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static COOKIE_AT: Global<u32> = Global::new(0);
/// The service's ports, as `port_bit`s.
#[unsafe(no_mangle)]
static PORT_BITS: Global<u64> = Global::new(0);

/// The row of the socket's connection. Every socket of the host comes here, so what most of them
/// fail is asked first, and without a call.
#[inline(always)]
fn row(ctx: &BtfTracePointContext) -> Option<Row> {
    let socket: *const u8 = ctx.arg(0);
    // SAFETY: the tracepoint's first argument is a socket; the verifier checks the sum against the
    // kernel's own type.
    let port = unsafe {
        socket
            .add(PORT_AT.load() as usize)
            .cast::<u16>()
            .read_volatile()
    };
    if PORT_BITS.load() & port_bit(port) == 0 {
        return None;
    }
    // SAFETY: as above. A connection has its cookie since `track` asked for it.
    let cookie = unsafe {
        socket
            .add(COOKIE_AT.load() as usize)
            .cast::<u64>()
            .read_volatile()
    };
    Row::find(cookie)
}
