//! `leave`: does in the packets what `polite` does in the messages of a server, for kernels on which a server whose
//! connection is in a sockhash cannot read on.
//!
//! Runs at the egress of every device of the service's network namespace, and only while a generation drains. It looks
//! at packets of sockets that user space has given a value in [`BEGUN`], and changes `Connection: keep-alive` to
//! `close` in the heads of HTTP/1.1 responses: nothing is put in, the length stays. Which packets begin a response, and
//! which bytes must be changed once more when they are sent again, is [`lb_common::Segments`]'s to say. The kernel
//! makes a copy of what is written to, so that neither the queue of what may be sent again nor a page of a file
//! changes. Every way out is "next": whoever is behind it decides.

use core::{
    ffi::{c_long, c_void},
    ptr,
};

use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_SK_STORAGE_GET_F_CREATE, bpf_hdr_start_off::BPF_HDR_START_NET, bpf_sock,
    },
    helpers::{
        bpf_l4_csum_replace, bpf_loop, bpf_sk_fullsock, bpf_sk_storage_get, bpf_skb_load_bytes,
        bpf_skb_load_bytes_relative, bpf_skb_pull_data, bpf_skb_store_bytes, bpf_skc_to_tcp_sock,
        bpf_tcp_sock,
    },
    macros::classifier,
    programs::TcContext,
};
use lb_common::{
    Begun, PoliteCell, Segment, Segments, Sender,
    head::{Advice, CLOSE, HEAD_LIMIT, HeadReader},
};

use crate::{
    maps::{BEGUN, SEGMENTS},
    polite::{COPIED_SEQ_AT, count},
};

/// `TCX_NEXT`.
const NEXT: i32 = -1;
/// EtherTypes, in the order of the network.
const IPV4: u32 = 0x0800_u16.to_be() as u32;
const IPV6: u32 = 0x86dd_u16.to_be() as u32;
const TCP: u8 = 6;
/// No device has a longer header in front.
const LONGEST_LINK: u32 = 64;
/// A packet is not longer, but for jumbograms, which are left alone.
const LONGEST: u32 = 1 << 16;

#[classifier]
pub fn leave(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the context is valid for the run.
    let socket = unsafe { (*skb).__bindgen_anon_2.sk };
    if socket.is_null() {
        return NEXT;
    }
    // SAFETY: the helper takes any socket of a packet, and gives null for what is not a whole one.
    let socket = unsafe { bpf_sk_fullsock(socket) };
    if !socket.is_null() {
        look(skb, socket);
    }
    NEXT
}

#[inline(always)]
fn look(skb: *mut __sk_buff, socket: *mut bpf_sock) {
    let begun = stored::<[u64; Begun::WORDS]>(ptr::from_ref(&BEGUN).cast(), socket, 0);
    let create = if begun.is_null() {
        0
    } else {
        u64::from(BPF_SK_STORAGE_GET_F_CREATE)
    };
    let words = stored::<[u64; Segments::WORDS]>(ptr::from_ref(&SEGMENTS).cast(), socket, create);
    if words.is_null() {
        return;
    }
    let Some(place) = Place::find(skb) else {
        return;
    };
    let Some(sender) = sender(socket) else {
        return;
    };
    // SAFETY: not null and aligned. TCP sends under the socket's lock, so that this program is the only one at it; a
    // packet that waited for a neighbour's address passes without, at worst beside another, and then a response may be
    // left alone.
    let mut segments = Segments::from_words(unsafe { *words });
    segments.settle(sender);
    let mut cell = None;
    if !begun.is_null() {
        // SAFETY: not null and aligned; user space gives and takes it as a whole.
        let begun = Begun::from_words(unsafe { *begun });
        if segments.begins(begun, sender, place.segment) {
            // SAFETY: the storage has room for both, one behind the other; the reader is made of plain integers.
            let head = unsafe { words.add(1) }.cast::<HeadReader>();
            cell = Some(respond(skb, socket, &place, &mut segments, head, sender));
        }
    }
    if let Some(first) = segments.changed_in(place.segment)
        && !write(skb, &place, first)
    {
        // What went out as it was must not be changed when it is sent again.
        if cell.is_some() {
            segments.leave();
        }
        cell = Some(PoliteCell::Failed);
    }
    if let Some(cell) = cell {
        count(cell);
    }
    // SAFETY: as above.
    unsafe { *words = segments.to_words() };
}

#[inline(always)]
fn stored<T>(map: *const c_void, socket: *mut bpf_sock, flags: u64) -> *mut T {
    // SAFETY: a map of the program's own and a socket that is not null; a new value is made of zeros.
    let found =
        unsafe { bpf_sk_storage_get(map.cast_mut(), socket.cast(), ptr::null_mut(), flags) };
    found.cast()
}

#[inline(always)]
fn sender(socket: *mut bpf_sock) -> Option<Sender> {
    // SAFETY: the helper takes a whole socket and gives null for what is not TCP.
    let tcp = unsafe { bpf_tcp_sock(socket) };
    // SAFETY: not null, then valid for the run.
    unsafe { tcp.as_ref() }.map(|tcp| Sender {
        received: tcp.bytes_received,
        acknowledged: tcp.bytes_acked,
        unacknowledged: tcp.snd_una,
        next: tcp.snd_nxt,
    })
}

/// Whether the server has not read all that its client sent.
#[inline(always)]
fn waits(socket: *mut bpf_sock) -> bool {
    // SAFETY: as `sender` says.
    let tcp = unsafe { bpf_tcp_sock(socket) };
    // SAFETY: the helper takes any socket and gives null for what is not TCP.
    let kernels = unsafe { bpf_skc_to_tcp_sock(socket.cast()) }.cast::<u8>();
    if tcp.is_null() || kernels.is_null() {
        return true;
    }
    // SAFETY: the verifier checks the sum against the kernel's own type.
    let copied = unsafe {
        kernels
            .add(COPIED_SEQ_AT.load() as usize)
            .cast::<u32>()
            .read_volatile()
    };
    // SAFETY: not null, valid for the run.
    unsafe { (*tcp).rcv_nxt != copied }
}

/// Where in a packet things are, from its first byte on.
struct Place {
    transport: u32,
    payload: u32,
    segment: Segment,
}

impl Place {
    #[inline(always)]
    fn find(skb: *mut __sk_buff) -> Option<Self> {
        // SAFETY: fields of the context, valid for the run.
        let (length, protocol) = unsafe { ((*skb).len, (*skb).protocol) };
        let mut ip = [0_u8; 20];
        // SAFETY: the buffer is as long as said; the helper checks the range.
        let read = unsafe {
            bpf_skb_load_bytes_relative(
                skb.cast(),
                0,
                ip.as_mut_ptr().cast(),
                ip.len() as u32,
                BPF_HDR_START_NET,
            )
        };
        if read != 0 {
            return None;
        }
        let (header, total, is_tcp) = match protocol {
            // A fragment: only the first has the header of TCP, and none a sum of its own.
            IPV4 if (ip[6] & 0x3f) | ip[7] != 0 => return None,
            IPV4 => (
                u32::from(ip[0] & 15) * 4,
                u32::from(u16::from_be_bytes([ip[2], ip[3]])),
                ip[9] == TCP,
            ),
            IPV6 => (
                40,
                40 + u32::from(u16::from_be_bytes([ip[4], ip[5]])),
                ip[6] == TCP,
            ),
            _ => return None,
        };
        if !is_tcp || total < header + 20 || length < total || length > LONGEST + LONGEST_LINK {
            return None;
        }
        // Nothing is behind a packet that was made here; so what is in front is the device's header.
        let network = length - total;
        if network > LONGEST_LINK {
            return None;
        }
        let front = load::<8>(skb, network)?;
        if front != [ip[0], ip[1], ip[2], ip[3], ip[4], ip[5], ip[6], ip[7]] {
            return None;
        }
        let transport = network + header;
        let tcp = load::<24>(skb, transport)?;
        let size = u32::from(tcp[12] >> 4) * 4;
        // A packet that is signed (MD5, TCP-AO) is not what was signed when it was changed.
        let is_signed = size > 20 && (tcp[22] == 19 || tcp[20] == 29);
        let payload = transport + size;
        if size < 20 || is_signed || payload >= length {
            return None;
        }
        Some(Self {
            transport,
            payload,
            segment: Segment {
                at: u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]),
                size: length - payload,
            },
        })
    }
}

#[inline(always)]
fn load<const N: usize>(skb: *mut __sk_buff, at: u32) -> Option<[u8; N]> {
    let mut bytes = [0_u8; N];
    // SAFETY: the buffer is as long as said; the helper checks the range.
    let read = unsafe { bpf_skb_load_bytes(skb.cast(), at, bytes.as_mut_ptr().cast(), N as u32) };
    (read == 0).then_some(bytes)
}

/// Reads what may be a head and takes note of what there is to do.
#[inline(always)]
fn respond(
    skb: *mut __sk_buff,
    socket: *mut bpf_sock,
    place: &Place,
    segments: &mut Segments,
    head: *mut HeadReader,
    sender: Sender,
) -> PoliteCell {
    // SAFETY: the caller's pointer, into the socket's storage and not the stack, as the verifier would follow it there.
    let head = unsafe { &mut *head };
    *head = HeadReader::default();
    let mut reading = Reading {
        skb,
        head,
        payload: place.payload,
        size: place.segment.size,
    };
    // SAFETY: the callback is given the pointer it expects, which outlives the loop.
    unsafe {
        bpf_loop(
            HEAD_LIMIT,
            read as *mut c_void,
            ptr::from_mut(&mut reading).cast(),
            0,
        )
    };
    let head = &*reading.head;
    segments.goes_on(head, place.segment.size);
    match head.advice() {
        Advice::Insert(_) => PoliteCell::Absent,
        Advice::Rewrite(_) if waits(socket) || head.is_followed(place.segment.size) => {
            PoliteCell::Pipelined
        }
        // Cut there by the device: were this program gone when one of the two has to be sent again, the halves would
        // not fit each other.
        Advice::Rewrite(at) if is_cut(skb, at) => PoliteCell::Unclear,
        Advice::Rewrite(at) if !segments.change(place.segment.at.wrapping_add(at), sender) => {
            PoliteCell::Pipelined
        }
        advice => PoliteCell::of(advice),
    }
}

/// Whether the bytes at `at` leave the host in two packets.
#[inline(always)]
fn is_cut(skb: *mut __sk_buff, at: u32) -> bool {
    // SAFETY: a field of the context, valid for the run.
    let piece = unsafe { (*skb).gso_size };
    piece != 0 && at / piece != (at + CLOSE.len() as u32 - 1) / piece
}

struct Reading<'a> {
    skb: *mut __sk_buff,
    head: &'a mut HeadReader,
    payload: u32,
    size: u32,
}

/// Reads the byte at `index`; 1 ends the loop.
#[inline(never)]
extern "C" fn read(index: u32, reading: *mut Reading<'_>) -> c_long {
    // SAFETY: `respond` passes its own value.
    let reading = unsafe { &mut *reading };
    if index >= reading.size {
        return 1;
    }
    match load::<1>(reading.skb, reading.payload + index) {
        Some([byte]) => c_long::from(!reading.head.read(byte)),
        None => 1,
    }
}

struct Writing<'a> {
    skb: *mut __sk_buff,
    place: &'a Place,
    /// Where the first byte stands, from the payload's first on. It may be in a packet before.
    first: i32,
    failed: bool,
}

/// Has [`CLOSE`] stand `first` bytes behind the payload's first, or what of it is in this packet.
#[inline(always)]
fn write(skb: *mut __sk_buff, place: &Place, first: i32) -> bool {
    let length = CLOSE.len() as u32;
    let end = (first + length as i32) as u32;
    let end = if end < place.segment.size {
        end
    } else {
        place.segment.size
    };
    let end = place.payload + end;
    // All or nothing: from here on the bytes can be written to.
    // SAFETY: the context is valid; the helper checks the range.
    if end > LONGEST || unsafe { bpf_skb_pull_data(skb, end) } != 0 {
        return false;
    }
    let mut writing = Writing {
        skb,
        place,
        first,
        failed: false,
    };
    // A loop of the verifier's own, or it would try every byte both written and not.
    // SAFETY: the callback is given the pointer it expects, which outlives the loop.
    unsafe {
        bpf_loop(
            length,
            write_at as *mut c_void,
            ptr::from_mut(&mut writing).cast(),
            0,
        )
    };
    !writing.failed
}

/// Writes the byte at `index` of [`CLOSE`]; 1 ends the loop.
#[inline(never)]
extern "C" fn write_at(index: u32, writing: *mut Writing<'_>) -> c_long {
    // SAFETY: `write` passes its own value.
    let writing = unsafe { &mut *writing };
    let place = writing.place;
    let at = writing.first + index as i32;
    if at < 0 || at >= place.segment.size as i32 {
        return 0;
    }
    let written = write_byte(
        writing.skb,
        place,
        place.payload + at as u32,
        byte_of_close(index),
    );
    writing.failed = !written;
    c_long::from(!written)
}

#[inline(always)]
const fn byte_of_close(index: u32) -> u8 {
    match index {
        0 => CLOSE[0],
        1 => CLOSE[1],
        2 => CLOSE[2],
        3 => CLOSE[3],
        4 => CLOSE[4],
        _ => b' ',
    }
}

#[inline(always)]
fn write_byte(skb: *mut __sk_buff, place: &Place, at: u32, new: u8) -> bool {
    let Some([old]) = load::<1>(skb, at) else {
        return false;
    };
    if old == new {
        return true;
    }
    // SAFETY: one byte that lives until the call returns; the helper checks the range.
    let stored = unsafe { bpf_skb_store_bytes(skb.cast(), at, ptr::from_ref(&new).cast(), 1, 0) };
    if stored != 0 {
        return false;
    }
    // The sum is of words of two bytes. It is the device's to make as a rule, and the helper knows.
    let is_second = (at - place.transport) & 1 == 1;
    let word = |byte: u8| u64::from(byte) << if is_second { 8 } else { 0 };
    // SAFETY: the context is valid; the helper checks the range.
    unsafe { bpf_l4_csum_replace(skb.cast(), place.transport + 16, word(old), word(new), 2) == 0 }
}
