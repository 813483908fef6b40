//! What the kernel knows of a connection that ends.

use aya_ebpf::{Global, helpers::bpf_skc_to_tcp_sock, programs::SockOpsContext};
use lb_common::Ending;

/// Offsets in the running kernel's `struct tcp_sock`: constants to the verifier, which checks that
/// a field of this size is there. 0 where the kernel does not describe its types.
#[unsafe(no_mangle)]
static ERROR_AT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static SOCKET_AT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static RECEIVED_TIME_AT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static SENT_TIME_AT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static WRITE_SEQ_AT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static FLAGS_AT: Global<u32> = Global::new(0);

/// `SOCK_DONE` in a socket's flags: the other side has closed its direction.
const DONE: u64 = 1 << 1;

/// The connection of this call, which is in no state any more and was in `former`. `None` where
/// the kernel does not tell.
#[inline(always)]
pub fn of(ctx: &SockOpsContext, former: u32) -> Option<Ending> {
    if WRITE_SEQ_AT.load() == 0 {
        return None;
    }
    // SAFETY: the context is valid for the run. Loaded once: the verifier forgets between two
    // loads that it was not null.
    let socket = unsafe { (*ctx.ops).__bindgen_anon_2.sk };
    if socket.is_null() {
        return None;
    }
    // SAFETY: the helper takes any socket and gives null for what is not TCP.
    let tcp = unsafe { bpf_skc_to_tcp_sock(socket.cast()) }.cast::<u8>();
    if tcp.is_null() {
        return None;
    }
    let word = |at: &Global<u32>| {
        // SAFETY: the verifier checks the sum against the kernel's own type.
        unsafe { tcp.add(at.load() as usize).cast::<u32>().read_volatile() }
    };
    // SAFETY: as above; a pointer that is only compared.
    let owner = unsafe {
        tcp.add(SOCKET_AT.load() as usize)
            .cast::<*const u8>()
            .read_volatile()
    };
    // SAFETY: as above.
    let flags = unsafe {
        tcp.add(FLAGS_AT.load() as usize)
            .cast::<u64>()
            .read_volatile()
    };
    // SAFETY: fields of the context, valid for the run.
    let (received, sent, acknowledged) = unsafe {
        let ops = &*ctx.ops;
        (ops.data_segs_in, ops.data_segs_out, ops.snd_una)
    };
    // SAFETY: likewise.
    let (bytes_received, bytes_acknowledged) = unsafe {
        let ops = &*ctx.ops;
        (ops.bytes_received, ops.bytes_acked)
    };
    Some(Ending {
        former,
        error: word(&ERROR_AT),
        held: !owner.is_null(),
        received,
        sent,
        last_received: word(&RECEIVED_TIME_AT),
        last_sent: word(&SENT_TIME_AT),
        unacknowledged: word(&WRITE_SEQ_AT) != acknowledged,
        client_closed: flags & DONE != 0,
        bytes_received,
        bytes_acknowledged,
    })
}
