//! `received` and `sent`: how long clients wait, from the server's own reads and writes.
//!
//! Attached to the kernel's `sock_recv_length` and `sock_send_length` (6.3), which every socket of
//! the host passes; those of other ports, or without a row in the table of recent connections, are
//! left at once.

use aya_ebpf::{Global, macros::btf_tracepoint, programs::BtfTracePointContext};
use lb_common::{
    Latency,
    recent::{ASKED, OPENED, Said, port_bit},
    watched,
};

use crate::{
    maps::WATCHED,
    recent::{Row, now, observe, observe_at},
    refused::INODE_AT,
};

/// `MSG_PEEK`: the data stays where it is.
const PEEK: i32 = 2;

#[btf_tracepoint(function = "sock_recv_length")]
pub fn received(ctx: BtfTracePointContext) -> i32 {
    let (length, flags): (i32, i32) = (ctx.arg(1), ctx.arg(2));
    if length <= 0 || flags & PEEK != 0 {
        return 0;
    }
    let Some(Talk { row, key }) = talk(&ctx) else {
        return 0;
    };
    let last = row.last();
    if last.said == Said::Request {
        return 0; // more of the same one
    }
    let now = now();
    if last.said == Said::Nothing {
        let wait = now.wrapping_sub(row.load(OPENED));
        note(key, Latency::QueueWait, last.seat, wait);
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
    let Some(Talk { row, key }) = talk(&ctx) else {
        return 0;
    };
    let last = row.last();
    if last.said != Said::Request {
        return 0; // more of the same answer, or the server speaks first
    }
    let took = now().wrapping_sub(row.load(ASKED));
    note(key, Latency::ServiceTime, last.seat, took);
    row.turn(last.seat, Said::Answer);
    0
}

/// Offsets in the running kernel's `struct sock`: constants to the verifier, which checks that a
/// field of this size is there.
#[unsafe(no_mangle)]
static PORT_AT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static COOKIE_AT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static NETWORK_AT: Global<u32> = Global::new(0);
/// Not 0: looks at the connections of all services that are entered in the tables of those.
#[unsafe(no_mangle)]
static FOR_ALL: Global<u32> = Global::new(0);
/// Otherwise: the service's ports, as `port_bit`s.
#[unsafe(no_mangle)]
static PORT_BITS: Global<u64> = Global::new(0);

/// A connection of a service.
struct Talk {
    row: Row,
    /// Where the tables of all services have the service.
    key: u64,
}

#[inline(always)]
fn note(key: u64, latency: Latency, seat: u32, nanoseconds: u64) {
    if FOR_ALL.load() != 0 {
        observe_at(key, latency, seat, nanoseconds);
    } else {
        observe(latency, seat, nanoseconds);
    }
}

/// The socket's connection. Every socket of the host comes here, so what most of them fail is asked
/// first, and without a call.
#[inline(always)]
fn talk(ctx: &BtfTracePointContext) -> Option<Talk> {
    let socket: *const u8 = ctx.arg(0);
    let port: u16 = field(socket, PORT_AT.load());
    if FOR_ALL.load() == 0 {
        if PORT_BITS.load() & port_bit(port) == 0 {
            return None;
        }
        let row = Row::find(cookie(socket))?;
        return Some(Talk { row, key: 0 });
    }
    let (word, bit) = watched::bit(port);
    // SAFETY: a valid, aligned cell; the agent stores it whole.
    if unsafe { WATCHED.get_ptr(word)?.read_volatile() } & bit == 0 {
        return None;
    }
    let network: *const u8 = field(socket, NETWORK_AT.load());
    let key = watched::key(field(network, INODE_AT.load()), port);
    let row = Row::find_at(key, cookie(socket))?;
    Some(Talk { row, key })
}

/// A connection has its cookie since `track` asked for it.
#[inline(always)]
fn cookie(socket: *const u8) -> u64 {
    field(socket, COOKIE_AT.load())
}

/// A field of one of the kernel's structures.
#[inline(always)]
fn field<T>(structure: *const u8, offset: u32) -> T {
    // SAFETY: the tracepoint's first argument is a socket, and what it points at is reached from it;
    // the verifier checks each sum against the kernel's own types.
    unsafe { structure.add(offset as usize).cast::<T>().read_volatile() }
}
