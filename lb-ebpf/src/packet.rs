//! Addresses and ports, read from the packet of a connection, or the datagram, that is being chosen
//! for.

use aya_ebpf::{
    bindings::bpf_hdr_start_off::BPF_HDR_START_NET,
    helpers::{bpf_skb_load_bytes, bpf_skb_load_bytes_relative},
    programs::SkReuseportContext,
};
use lb_common::{
    FlowKey,
    quic::{ConnectionId, HEAD},
};

const ETH_P_IP: u32 = 0x0800;
const ETH_P_IPV6: u32 = 0x86dd;
const UDP_HEADER: u32 = 8;

/// The source address in host-order words, IPv4 as IPv4-mapped; `None` for anything else.
#[inline(always)]
pub fn source_address(ctx: &SkReuseportContext) -> Option<[u32; 4]> {
    match u32::from(u16::from_be(ctx.eth_protocol() as u16)) {
        ETH_P_IP => {
            let [address] = load::<1>(ctx, 12)?;
            Some([0, 0, 0xffff, address])
        }
        ETH_P_IPV6 => load::<4>(ctx, 8),
        _ => None,
    }
}

/// The source port in host order.
#[inline(always)]
pub fn source_port(ctx: &SkReuseportContext) -> Option<u16> {
    let data = ctx.data();
    if data + 2 > ctx.data_end() {
        return None;
    }
    // SAFETY: the two bytes lie within the packet, as just checked; the transport header starts
    // with the source port.
    let port = unsafe { (data as *const u16).read_unaligned() };
    Some(u16::from_be(port))
}

/// Who sends to whom, by what the transport header begins with: two ports.
#[inline(always)]
pub fn four_tuple(ctx: &SkReuseportContext) -> Option<FlowKey> {
    let (client, server) = match u32::from(u16::from_be(ctx.eth_protocol() as u16)) {
        ETH_P_IP => {
            let [client, server] = load::<2>(ctx, 12)?;
            ([0, 0, 0xffff, client], [0, 0, 0xffff, server])
        }
        ETH_P_IPV6 => {
            let [a, b, c, d, e, f, g, h] = load::<8>(ctx, 8)?;
            ([a, b, c, d], [e, f, g, h])
        }
        _ => return None,
    };
    let data = ctx.data();
    if data + 4 > ctx.data_end() {
        return None;
    }
    // SAFETY: the four bytes lie within the packet, as just checked.
    let ports = u32::from_be(unsafe { (data as *const u32).read_unaligned() });
    Some(FlowKey {
        client,
        server,
        client_port: (ports >> 16) as u16,
        server_port: ports as u16,
    })
}

/// The id of QUIC in the datagram; `None` for one with a long header, and for one that is too short.
/// By the helper, because what the kernel puts together or takes apart only later (GRO, GSO) has no
/// more than its headers where the program could read them by itself.
#[inline(always)]
pub fn connection_id(ctx: &SkReuseportContext) -> Option<ConnectionId> {
    let mut head = [0_u8; HEAD];
    // SAFETY: the helper writes exactly the length it is given, which is that of `head`.
    let result = unsafe {
        bpf_skb_load_bytes(
            ctx.md.cast(),
            UDP_HEADER,
            head.as_mut_ptr().cast(),
            HEAD as u32,
        )
    };
    if result == 0 {
        ConnectionId::read(head)
    } else {
        None
    }
}

/// `N` words at `offset` of the network header, in host order.
#[inline(always)]
fn load<const N: usize>(ctx: &SkReuseportContext, offset: u32) -> Option<[u32; N]> {
    let mut words = [0_u32; N];
    // SAFETY: the helper writes exactly the length it is given, which is that of `words`.
    let result = unsafe {
        bpf_skb_load_bytes_relative(
            ctx.md.cast(),
            offset,
            words.as_mut_ptr().cast(),
            (N * 4) as u32,
            BPF_HDR_START_NET,
        )
    };
    if result != 0 {
        return None;
    }
    for word in &mut words {
        *word = u32::from_be(*word);
    }
    Some(words)
}
