//! The two bpf(2) calls aya has no function for: a socket array with 8-byte values.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
};

const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;

/// The part of `union bpf_attr` that element calls read (uapi/linux/bpf.h).
#[repr(C)]
struct ElementAttr {
    map_fd: u32,
    _padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Puts `socket` into `slot` of a socket array; replaces what was there.
///
/// # Errors
///
/// EBUSY: the socket is in a slot already. EINVAL: it does not listen or has no `SO_REUSEPORT`.
/// E2BIG: there is no such slot.
pub fn insert_socket(array: BorrowedFd<'_>, slot: u32, socket: impl AsFd) -> io::Result<()> {
    let mut value = u64::try_from(socket.as_fd().as_raw_fd()).map_err(io::Error::other)?;
    element(BPF_MAP_UPDATE_ELEM, array, slot, &mut value)
}

/// The cookie of the socket in `slot`, or `None` for an empty one.
///
/// # Errors
///
/// ENOSPC: the array was made with 4-byte values.
pub fn socket_cookie_at(array: BorrowedFd<'_>, slot: u32) -> io::Result<Option<u64>> {
    let mut cookie = 0;
    match element(BPF_MAP_LOOKUP_ELEM, array, slot, &mut cookie) {
        Ok(()) => Ok(Some(cookie)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[expect(unsafe_code, reason = "aya insists on 4-byte values for socket arrays")]
fn element(call: libc::c_long, map: BorrowedFd<'_>, key: u32, value: &mut u64) -> io::Result<()> {
    let attr = ElementAttr {
        map_fd: u32::try_from(map.as_raw_fd()).map_err(io::Error::other)?,
        _padding: 0,
        key: std::ptr::from_ref(&key).addr() as u64,
        value: std::ptr::from_mut(value).addr() as u64,
        flags: 0,
    };
    let size = size_of::<ElementAttr>();
    let attr = std::ptr::from_ref(&attr);
    std::hint::black_box((&key, &value));
    // SAFETY: the attribute and what it points to live until the call returns; key and value
    // have the sizes the map was made with, 4 and 8 bytes.
    let result = unsafe { libc::syscall(libc::SYS_bpf, call, attr, size) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
