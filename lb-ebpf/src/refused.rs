//! `refused`: counts the clients whose SYN the kernel answers by a reset, since no socket takes it.
//!
//! Attached to the kernel's `tcp_send_reset`, which it passes with each packet it answers by a reset
//! (6.10; before that, only with those of a connection), else to `kfree_skb`, which it passes with
//! each packet it drops and the reason (5.17), about once a connection: what is dropped for another
//! reason than that no socket is there is left at once. The fields of a packet are copied out, so the
//! verifier has no part in them: the offsets are the running kernel's, from its own types.

use aya_ebpf::{
    Global, helpers::bpf_probe_read_kernel, macros::raw_tracepoint, programs::RawTracePointContext,
};
use lb_common::{ConnectionCell, GenerationId, ListenKey, SteeringWord, steering};

use crate::{
    maps::{DECLARED, PORTS, STEERING},
    track::count,
};

/// Offsets in the running kernel's structures, in bytes.
#[unsafe(no_mangle)]
static HEAD_AT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static NETWORK_HEADER_AT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static TRANSPORT_HEADER_AT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static DEVICE_AT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static NAMESPACE_AT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static INODE_AT: Global<u32> = Global::new(0);
/// The reason that means that no socket is there.
#[unsafe(no_mangle)]
static NO_SOCKET: Global<u32> = Global::new(0);
/// Not 0: attached to `tcp_send_reset`.
#[unsafe(no_mangle)]
static AT_RESETS: Global<u32> = Global::new(0);
/// The network namespace of the service.
#[unsafe(no_mangle)]
static OWN_NAMESPACE: Global<u32> = Global::new(0);

const TCP: u8 = 6;
const SYN: u8 = 1 << 1;
const ACK: u8 = 1 << 4;

#[raw_tracepoint]
pub fn refused(ctx: RawTracePointContext) -> i32 {
    if AT_RESETS.load() != 0 {
        let (socket, packet): (*const u8, *const u8) = (ctx.arg(0), ctx.arg(1));
        if socket.is_null() {
            look_at(packet);
        }
        return 0;
    }
    let (packet, reason): (*const u8, u32) = (ctx.arg(0), ctx.arg(2));
    if reason == NO_SOCKET.load() {
        look_at(packet);
    }
    0
}

#[inline(always)]
fn look_at(packet: *const u8) -> Option<()> {
    let head: *const u8 = read(packet, HEAD_AT.load())?;
    let transport: u16 = read(packet, TRANSPORT_HEADER_AT.load())?;
    let segment = head.wrapping_add(transport.into());
    let port = u16::from_be(read(segment, 2)?);
    PORTS.get_ptr(u32::from(port))?;
    let flags: u8 = read(segment, 13)?;
    let network: u16 = read(packet, NETWORK_HEADER_AT.load())?;
    let address = destination(head.wrapping_add(network.into()))?;
    if flags & (SYN | ACK) == SYN && is_declared(address, port) && is_here(packet)? {
        count(seat(), ConnectionCell::Refused);
    }
    Some(())
}

/// Where a TCP packet was sent to, in host-order words, IPv4 as IPv4-mapped.
#[inline(always)]
fn destination(header: *const u8) -> Option<[u32; 4]> {
    let version: u8 = read(header, 0)?;
    if version >> 4 == 4 {
        let protocol: u8 = read(header, 9)?;
        let address: u32 = read(header, 16)?;
        return (protocol == TCP).then_some([0, 0, 0xffff, u32::from_be(address)]);
    }
    let protocol: u8 = read(header, 6)?;
    let address: [u32; 4] = read(header, 24)?;
    let [a, b, c, d] = address;
    let address = [
        u32::from_be(a),
        u32::from_be(b),
        u32::from_be(c),
        u32::from_be(d),
    ];
    (protocol == TCP).then_some(address)
}

#[inline(always)]
fn is_declared(address: [u32; 4], port: u16) -> bool {
    let [own, any_of_family, any] = ListenKey::reaching(address, port);
    DECLARED.get_ptr(own.to_words()).is_some()
        || DECLARED.get_ptr(any_of_family.to_words()).is_some()
        || DECLARED.get_ptr(any.to_words()).is_some()
}

/// Whether the packet came in the service's network namespace: another one has ports of its own.
#[inline(always)]
fn is_here(packet: *const u8) -> Option<bool> {
    let device: *const u8 = read(packet, DEVICE_AT.load())?;
    let namespace: *const u8 = read(device, NAMESPACE_AT.load())?;
    let inode: u32 = read(namespace, INODE_AT.load())?;
    Some(inode == OWN_NAMESPACE.load())
}

/// The active generation's seat; the parking listener's without one.
#[inline(always)]
fn seat() -> u32 {
    let Some(row) = STEERING.get_ptr(0) else {
        return 0;
    };
    // SAFETY: within the row and aligned.
    let word = unsafe { row.cast::<u64>().add(steering::WORD).read_volatile() };
    let active = SteeringWord::from_bits(word).active;
    active.map_or(0, GenerationId::seat)
}

/// What is at `offset` of something in the kernel's memory.
#[inline(always)]
fn read<T>(from: *const u8, offset: u32) -> Option<T> {
    let at = from.wrapping_add(offset as usize);
    // SAFETY: the helper reads whatever address it is given, or fails.
    unsafe { bpf_probe_read_kernel(at.cast::<T>()) }.ok()
}
