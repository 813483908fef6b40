//! `guard_tcp` and `guard_udp`: which program decides about each reuseport group.
//!
//! Attaching is per group and replaces what anybody else has attached, without a word to them. These
//! iterators write down, for each listener and each UDP socket that shares its port, its cookie and
//! the id of the group's program. The agent has them run once a second; nothing of them runs otherwise.

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    Global,
    bindings::seq_file,
    helpers::{bpf_probe_read_kernel, generated::bpf_seq_write},
};
use lb_common::names::GUARD_WORDS;

#[unsafe(no_mangle)]
static SOCKET_STATE_AT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static SOCKET_COOKIE_AT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static GROUP_AT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static PROGRAM_AT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static AUX_AT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static ID_AT: Global<u32> = Global::new(0);

const TCP_LISTEN: u8 = 10;

/// What `struct bpf_iter__tcp` and `struct bpf_iter__udp` begin with.
#[repr(C)]
pub struct Turn {
    meta: *const Meta,
    socket: *const u8,
}

/// What `struct bpf_iter_meta` begins with.
#[repr(C)]
struct Meta {
    seq: *mut seq_file,
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
pub extern "C" fn guard_tcp(turn: *mut Turn) -> i32 {
    // SAFETY: the kernel's context; null once it has been through all sockets.
    let socket = unsafe { (*turn).socket };
    if socket.is_null() {
        return 0;
    }
    match field::<u8>(socket, SOCKET_STATE_AT.load()) {
        Some(TCP_LISTEN) => note(turn, socket),
        // Listeners come first: 1 ends the reading.
        _ => 1,
    }
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/udp")]
pub extern "C" fn guard_udp(turn: *mut Turn) -> i32 {
    // SAFETY: as above.
    let socket = unsafe { (*turn).socket };
    if socket.is_null() {
        return 0;
    }
    note(turn, socket)
}

#[inline(always)]
fn note(turn: *mut Turn, socket: *const u8) -> i32 {
    let Some(program) = program(socket) else {
        return 0; // it shares its port with nobody
    };
    let Some(cookie) = field::<u64>(socket, SOCKET_COOKIE_AT.load()) else {
        return 0;
    };
    let record: [u64; GUARD_WORDS] = [cookie, u64::from(program)];
    // SAFETY: the kernel's context has both; the helper reads the whole record and nothing more. It
    // fails when the file's buffer is full: the kernel then calls again for this socket.
    unsafe {
        let seq = (*(*turn).meta).seq;
        bpf_seq_write(
            seq,
            ptr::from_ref(&record).cast::<c_void>(),
            size_of::<[u64; GUARD_WORDS]>() as u32,
        );
    }
    0
}

/// The id of the program of the socket's group, 0 for none; `None` where there is no group.
#[inline(always)]
fn program(socket: *const u8) -> Option<u32> {
    let group: *const u8 = field(socket, GROUP_AT.load())?;
    if group.is_null() {
        return None;
    }
    let program: *const u8 = field(group, PROGRAM_AT.load())?;
    if program.is_null() {
        return Some(0);
    }
    let aux: *const u8 = field(program, AUX_AT.load())?;
    // A classic filter has none.
    if aux.is_null() {
        return Some(u32::MAX);
    }
    field(aux, ID_AT.load())
}

#[inline(always)]
fn field<T>(of: *const u8, at: u32) -> Option<T> {
    // SAFETY: the helper reads any address, or fails.
    unsafe { bpf_probe_read_kernel(of.wrapping_add(at as usize).cast::<T>()) }.ok()
}
