//! The bpf(2) calls aya has no function for: a socket array with 8-byte values, socket storage,
//! which map is in a map of maps, and an attachment that lasts.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
};

const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_MAP_DELETE_ELEM: libc::c_long = 3;
const BPF_PROG_ATTACH: libc::c_long = 8;
const BPF_NOEXIST: u64 = 1;
const BPF_SK_MSG_VERDICT: u32 = 7;

/// The part of `union bpf_attr` that `BPF_PROG_ATTACH` reads.
#[repr(C)]
struct AttachAttr {
    target_fd: u32,
    program_fd: u32,
    attach_type: u32,
    flags: u32,
    replaced_fd: u32,
}

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
    element(BPF_MAP_UPDATE_ELEM, array, &slot, &mut value, 0)
}

/// Empties `slot` of a socket array.
///
/// # Errors
///
/// ENOENT: it is empty.
pub fn remove_socket(array: BorrowedFd<'_>, slot: u32) -> io::Result<()> {
    element(BPF_MAP_DELETE_ELEM, array, &slot, &mut 0, 0)
}

/// Gives `socket` a value in a socket storage map, unless it has one.
///
/// # Errors
///
/// EEXIST: it has one. EINVAL: the map's values are of another size.
pub fn give_storage<const N: usize>(
    storage: BorrowedFd<'_>,
    socket: impl AsFd,
    mut value: [u64; N],
) -> io::Result<()> {
    let key = u32::try_from(socket.as_fd().as_raw_fd()).map_err(io::Error::other)?;
    element(BPF_MAP_UPDATE_ELEM, storage, &key, &mut value, BPF_NOEXIST)
}

/// Takes a socket's value in a socket storage map away. Copies of it stay.
///
/// # Errors
///
/// ENOENT: it has none.
pub fn take_storage(storage: BorrowedFd<'_>, socket: impl AsFd) -> io::Result<()> {
    let key = u32::try_from(socket.as_fd().as_raw_fd()).map_err(io::Error::other)?;
    element(BPF_MAP_DELETE_ELEM, storage, &key, &mut 0_u64, 0)
}

/// The cookie of the socket in `slot`, or `None` for an empty one.
///
/// # Errors
///
/// ENOSPC: the array was made with 4-byte values.
pub fn socket_cookie_at(array: BorrowedFd<'_>, slot: u32) -> io::Result<Option<u64>> {
    let mut cookie = 0;
    match element(BPF_MAP_LOOKUP_ELEM, array, &slot, &mut cookie, 0) {
        Ok(()) => Ok(Some(cookie)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Puts the map `inner` at `key` of a hash of maps; replaces what was there.
///
/// # Errors
///
/// EINVAL: it is not of the kind that the hash was made for.
pub fn set_inner(hash: BorrowedFd<'_>, key: u64, inner: BorrowedFd<'_>) -> io::Result<()> {
    let mut value = u32::try_from(inner.as_raw_fd()).map_err(io::Error::other)?;
    element(BPF_MAP_UPDATE_ELEM, hash, &key, &mut value, 0)
}

/// Takes the map at `key` of a hash of maps out, if there is one.
pub fn remove_inner(hash: BorrowedFd<'_>, key: u64) -> io::Result<()> {
    match element(BPF_MAP_DELETE_ELEM, hash, &key, &mut 0_u32, 0) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The id of the map at `key` of a hash of maps.
pub fn inner_at(hash: BorrowedFd<'_>, key: u64) -> io::Result<Option<u32>> {
    let mut id = 0_u32;
    match element(BPF_MAP_LOOKUP_ELEM, hash, &key, &mut id, 0) {
        Ok(()) => Ok(Some(id)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Has an `sk_msg` program run for what the sockets of a map send, as long as the map exists.
///
/// # Errors
///
/// EPERM without `CAP_BPF` and `CAP_NET_ADMIN`.
#[expect(unsafe_code, reason = "aya detaches when its guard is dropped")]
pub fn attach_to_messages(sockets: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let number = |fd: BorrowedFd<'_>| u32::try_from(fd.as_raw_fd()).map_err(io::Error::other);
    let attr = AttachAttr {
        target_fd: number(sockets)?,
        program_fd: number(program)?,
        attach_type: BPF_SK_MSG_VERDICT,
        flags: 0,
        replaced_fd: 0,
    };
    let size = size_of::<AttachAttr>();
    let attr = std::ptr::from_ref(&attr);
    // SAFETY: the attribute lives until the call returns and holds no pointers.
    let result = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, attr, size) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[expect(
    unsafe_code,
    reason = "aya insists on 4-byte values for socket arrays and only reads socket storage"
)]
fn element<K, V>(
    call: libc::c_long,
    map: BorrowedFd<'_>,
    key: &K,
    value: &mut V,
    flags: u64,
) -> io::Result<()> {
    // A call that reads a field it has no use for is refused.
    let value_at = match call {
        BPF_MAP_DELETE_ELEM => 0,
        _ => std::ptr::from_mut(value).addr() as u64,
    };
    let attr = ElementAttr {
        map_fd: u32::try_from(map.as_raw_fd()).map_err(io::Error::other)?,
        _padding: 0,
        key: std::ptr::from_ref(key).addr() as u64,
        value: value_at,
        flags,
    };
    let size = size_of::<ElementAttr>();
    let attr = std::ptr::from_ref(&attr);
    std::hint::black_box((key, &value));
    // SAFETY: the attribute and what it points to live until the call returns; key and value have
    // the sizes the map was made with: four bytes and 8 or the words of `lb_common::Conversation`,
    // or, for a hash of maps, 8 and four.
    let result = unsafe { libc::syscall(libc::SYS_bpf, call, attr, size) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
