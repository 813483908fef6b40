//! The bpf(2) calls aya has no function for: a socket array with 8-byte values, socket storage,
//! which map is in a map of maps, an attachment that lasts, and pins of whatever kind.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
    ptr,
};

use super::bpf_raw::{Command, ElementAttr, address, call, number};

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

/// The part of `union bpf_attr` that `BPF_OBJ_PIN` and `BPF_OBJ_GET` read.
#[repr(C)]
struct ObjectAttr {
    path: u64,
    fd: u32,
    flags: u32,
}

/// Puts `socket` into `slot` of a socket array; replaces what was there.
///
/// # Errors
///
/// EBUSY: the socket is in a slot already. EINVAL: it does not listen or has no `SO_REUSEPORT`.
/// E2BIG: there is no such slot.
pub fn insert_socket(array: BorrowedFd<'_>, slot: u32, socket: impl AsFd) -> io::Result<()> {
    let mut value = u64::try_from(socket.as_fd().as_raw_fd()).map_err(io::Error::other)?;
    element(Command::Update, array, &slot, &mut value, 0)
}

/// Empties `slot` of a socket array.
///
/// # Errors
///
/// ENOENT: it is empty.
pub fn remove_socket(array: BorrowedFd<'_>, slot: u32) -> io::Result<()> {
    element(Command::Delete, array, &slot, &mut 0, 0)
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
    element(Command::Update, storage, &key, &mut value, BPF_NOEXIST)
}

/// Takes a socket's value in a socket storage map away. Copies of it stay.
///
/// # Errors
///
/// ENOENT: it has none.
pub fn take_storage(storage: BorrowedFd<'_>, socket: impl AsFd) -> io::Result<()> {
    let key = u32::try_from(socket.as_fd().as_raw_fd()).map_err(io::Error::other)?;
    element(Command::Delete, storage, &key, &mut 0_u64, 0)
}

/// The cookie of the socket in `slot`, or `None` for an empty one.
///
/// # Errors
///
/// ENOSPC: the array was made with 4-byte values.
pub fn socket_cookie_at(array: BorrowedFd<'_>, slot: u32) -> io::Result<Option<u64>> {
    let mut cookie = 0;
    match element(Command::LookUp, array, &slot, &mut cookie, 0) {
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
    element(Command::Update, hash, &key, &mut value, 0)
}

/// Takes the map at `key` of a hash of maps out, if there is one.
pub fn remove_inner(hash: BorrowedFd<'_>, key: u64) -> io::Result<()> {
    match element(Command::Delete, hash, &key, &mut 0_u32, 0) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The id of the map at `key` of a hash of maps.
pub fn inner_at(hash: BorrowedFd<'_>, key: u64) -> io::Result<Option<u32>> {
    let mut id = 0_u32;
    match element(Command::LookUp, hash, &key, &mut id, 0) {
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
    let mut attr = AttachAttr {
        target_fd: number(sockets)?,
        program_fd: number(program)?,
        attach_type: BPF_SK_MSG_VERDICT,
        flags: 0,
        replaced_fd: 0,
    };
    // SAFETY: the attribute is what the call reads, and holds no pointers.
    unsafe { call(Command::Attach, &mut attr) }.map(drop)
}

/// The map, program or link that is pinned at `path`.
///
/// # Errors
///
/// ENOENT: nothing is. EINVAL or EACCES: it is no pin.
#[expect(unsafe_code, reason = "aya asks for the kind first")]
pub fn pinned(path: &Path) -> io::Result<OwnedFd> {
    let fd = object(Command::Open, path, 0)?;
    // SAFETY: the kernel has just made this descriptor for the caller.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Pins a map, program or link at `path`, too: it may have any number of pins.
///
/// # Errors
///
/// EEXIST: something is there. EPERM: the path is not on a bpffs, or has a dot.
pub fn pin(what: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    object(Command::Pin, path, number(what)?).map(drop)
}

#[expect(unsafe_code, reason = "aya pins and opens by kind")]
fn object(command: Command, path: &Path, fd: u32) -> io::Result<i32> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = ObjectAttr {
        path: address(path.as_ptr()),
        fd,
        flags: 0,
    };
    // SAFETY: the attribute is what the calls read; the path ends with a zero and lives until the call returns.
    unsafe { call(command, &mut attr) }
}

#[expect(
    unsafe_code,
    reason = "aya insists on 4-byte values for socket arrays and only reads socket storage"
)]
fn element<K, V>(
    command: Command,
    map: BorrowedFd<'_>,
    key: &K,
    value: &mut V,
    flags: u64,
) -> io::Result<()> {
    let value = match command {
        Command::Delete => ptr::null_mut(),
        _ => ptr::from_mut(value),
    };
    let mut attr = ElementAttr::new(map, ptr::from_ref(key), value, flags)?;
    // SAFETY: the attribute is what the calls read; key and value live until the call returns and have the sizes the
    // map was made with: four bytes and 8 or the words of what socket storage holds, or, for a hash of maps, 8 and
    // four.
    unsafe { call(command, &mut attr) }.map(drop)
}
