//! `polite`: asks the clients of a draining generation to leave after the current response.
//!
//! Runs for each message a server sends on a socket in LEAVING, which is empty except while a
//! generation drains. In the head of an HTTP/1.1 response `Connection: keep-alive` becomes
//! `close`, the same number of bytes; where the header is missing it is put in. When a message
//! may be taken for a head is [`lb_common::Conversation`]'s to say, what is done with it
//! [`lb_common::head`]'s. Every way out is SK_PASS, and every head that is looked at is counted.

use core::{
    ffi::{c_long, c_void},
    ptr,
};

use aya_ebpf::{
    Global,
    bindings::{BPF_SK_STORAGE_GET_F_CREATE, sk_action::SK_PASS, sk_msg_md},
    helpers::{bpf_loop, bpf_msg_pull_data, bpf_sk_storage_get, bpf_skc_to_tcp_sock},
    macros::sk_msg,
    programs::SkMsgContext,
};
use lb_common::{
    Conversation, PoliteCell,
    head::{Advice, CLOSE, CLOSE_LINE, HEAD_LIMIT, HeadReader},
};

use crate::maps::{CONVERSATIONS, POLITENESS};

/// Offsets in the running kernel's `struct tcp_sock`. Constants to the verifier, which checks that
/// a field of this size is there.
#[unsafe(no_mangle)]
static BYTES_RECEIVED_AT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static RCV_NXT_AT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static COPIED_SEQ_AT: Global<u32> = Global::new(0);

#[sk_msg]
pub fn polite(ctx: SkMsgContext) -> u32 {
    let Some(client) = client(&ctx) else {
        count(PoliteCell::Failed);
        return SK_PASS;
    };
    let Some(storage) = storage(&ctx) else {
        count(PoliteCell::Failed);
        return SK_PASS;
    };
    let words = storage.cast::<[u64; Conversation::WORDS]>();
    // SAFETY: not null and aligned; the kernel runs this program under the socket's lock, and
    // user space only ever makes the storage, never changes it.
    let mut conversation = Conversation::from_words(unsafe { *words });
    if conversation.begins(client.sent, u64::from(ctx.size())) {
        // SAFETY: the storage has room for both, one behind the other; the reader is made of
        // plain integers, eight bytes aligned.
        let head = unsafe { words.add(1) }.cast::<HeadReader>();
        let cell = respond(&ctx, &mut conversation, head, client.waits);
        count(cell);
    }
    // SAFETY: as above.
    unsafe { *words = conversation.to_words() };
    SK_PASS
}

/// What the kernel knows of the other side.
struct Client {
    /// Bytes it sent.
    sent: u64,
    /// Whether the server has not read all of them.
    waits: bool,
}

#[inline(always)]
fn client(ctx: &SkMsgContext) -> Option<Client> {
    // SAFETY: the context is valid for the run, its socket never null.
    let socket = unsafe { (*ctx.msg).__bindgen_anon_3.sk };
    // SAFETY: the helper takes any socket and gives null for what is not TCP.
    let tcp = unsafe { bpf_skc_to_tcp_sock(socket.cast()) }.cast::<u8>();
    if tcp.is_null() {
        return None;
    }
    let field = |at: &Global<u32>| {
        // SAFETY: the verifier checks the sum against the kernel's own type.
        unsafe { tcp.add(at.load() as usize) }
    };
    // SAFETY: as above, for each of them.
    let sent = unsafe { field(&BYTES_RECEIVED_AT).cast::<u64>().read_volatile() };
    // SAFETY: likewise.
    let next = unsafe { field(&RCV_NXT_AT).cast::<u32>().read_volatile() };
    // SAFETY: likewise.
    let copied = unsafe { field(&COPIED_SEQ_AT).cast::<u32>().read_volatile() };
    Some(Client {
        sent,
        waits: next != copied,
    })
}

#[inline(always)]
fn storage(ctx: &SkMsgContext) -> Option<*mut [u64; Conversation::STORAGE]> {
    // SAFETY: the context is valid for the run.
    let socket = unsafe { (*ctx.msg).__bindgen_anon_3.sk };
    let map = ptr::from_ref(&CONVERSATIONS).cast_mut().cast::<c_void>();
    let create = u64::from(BPF_SK_STORAGE_GET_F_CREATE);
    // SAFETY: the program's own map and a socket that is not null; without a value the kernel
    // makes one of zeros.
    let found = unsafe { bpf_sk_storage_get(map, socket.cast(), ptr::null_mut(), create) };
    let found = found.cast::<[u64; Conversation::STORAGE]>();
    (!found.is_null()).then_some(found)
}

/// Reads what may be a head and does what there is to do.
#[inline(always)]
fn respond(
    ctx: &SkMsgContext,
    conversation: &mut Conversation,
    head: *mut HeadReader,
    waits: bool,
) -> PoliteCell {
    let size = ctx.size();
    if !in_one_piece(ctx, size) {
        return PoliteCell::Failed;
    }
    // In the socket's storage and not on the stack: the verifier does not follow what it holds, or
    // it would try every way through every byte.
    // SAFETY: the caller's pointer, used by nobody else meanwhile.
    let head = unsafe { &mut *head };
    *head = HeadReader::default();
    let mut reading = Reading { msg: ctx.msg, head };
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
    conversation.goes_on(head, u64::from(size));
    match head.advice() {
        Advice::Rewrite(_) | Advice::Insert(_) if waits || head.is_followed(size) => {
            PoliteCell::Pipelined
        }
        Advice::Rewrite(at) if !write(ctx, at, CLOSE) => PoliteCell::Failed,
        Advice::Insert(at) if !insert(ctx, at) => PoliteCell::Failed,
        advice => PoliteCell::of(advice),
    }
}

/// Makes as much of the message as may be its head readable.
#[inline(always)]
fn in_one_piece(ctx: &SkMsgContext, size: u32) -> bool {
    let wanted = if size < HEAD_LIMIT { size } else { HEAD_LIMIT };
    if ctx.data() + wanted as usize <= ctx.data_end() {
        return true;
    }
    // SAFETY: the context is valid; the helper checks the range.
    unsafe { bpf_msg_pull_data(ctx.msg, 0, wanted, 0) == 0 }
}

struct Reading<'a> {
    msg: *mut sk_msg_md,
    head: &'a mut HeadReader,
}

/// Reads the byte at `index`; 1 ends the loop.
#[inline(never)]
extern "C" fn read(index: u32, reading: *mut Reading<'_>) -> c_long {
    // SAFETY: `respond` passes its own value.
    let reading = unsafe { &mut *reading };
    let ctx = SkMsgContext::new(reading.msg);
    if index >= HEAD_LIMIT {
        return 1;
    }
    let at = ctx.data() + index as usize;
    if at + 1 > ctx.data_end() {
        return 1;
    }
    // SAFETY: the byte lies within the message, as just checked.
    let byte = unsafe { *(at as *const u8) };
    c_long::from(!reading.head.read(byte))
}

#[inline(always)]
fn insert(ctx: &SkMsgContext, at: u32) -> bool {
    let length = CLOSE_LINE.len() as u32;
    if at >= HEAD_LIMIT || ctx.push_data(at, length, 0).is_err() {
        return false;
    }
    // SAFETY: the context is valid; the helper checks the range. From here on the data of the
    // context begin at `at`.
    if unsafe { bpf_msg_pull_data(ctx.msg, at, at + length, 0) } == 0 && write(ctx, 0, CLOSE_LINE) {
        return true;
    }
    // What was put in is not written: it must not go out.
    let _taken_out = ctx.pop_data(at, length, 0);
    false
}

#[inline(always)]
fn write<const N: usize>(ctx: &SkMsgContext, at: u32, text: &[u8; N]) -> bool {
    if at >= HEAD_LIMIT {
        return false;
    }
    let at = ctx.data() + at as usize;
    if at + N > ctx.data_end() {
        return false;
    }
    // SAFETY: the bytes lie within the message, as just checked.
    unsafe { (at as *mut [u8; N]).write_unaligned(*text) };
    true
}

#[inline(always)]
pub(crate) fn count(cell: PoliteCell) {
    if let Some(cells) = POLITENESS.get_ptr_mut(0) {
        // SAFETY: within the row and aligned; the row belongs to this CPU alone. A program that
        // interrupts this one between load and store costs a count, no more.
        unsafe { *cells.cast::<u64>().add(cell.index()) += 1 };
    }
}
