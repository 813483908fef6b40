//! bpf(2) itself: one way in for the calls that aya has no function for.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

/// `enum bpf_cmd` (uapi/linux/bpf.h), as far as it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(super) enum Command {
    LookUp = 1,
    Update = 2,
    Delete = 3,
    NextKey = 4,
    LoadProgram = 5,
    Pin = 6,
    Open = 7,
    Attach = 8,
    LookUpBatch = 24,
    MakeLink = 28,
    UpdateLink = 29,
}

/// The part of `union bpf_attr` that element calls read.
#[repr(C)]
pub(super) struct ElementAttr {
    map_fd: u32,
    _padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl ElementAttr {
    /// Of `map`. A null pointer is a field that the call has no use for: one that is set then is refused.
    pub(super) fn new<K, V>(
        map: BorrowedFd<'_>,
        key: *const K,
        value: *mut V,
        flags: u64,
    ) -> io::Result<Self> {
        Ok(Self {
            map_fd: number(map)?,
            _padding: 0,
            key: address(key),
            value: address(value),
            flags,
        })
    }
}

/// A pointer as `union bpf_attr` has it. From here on the kernel may read, and write, what it points to.
pub(super) fn address<T>(pointer: *const T) -> u64 {
    pointer.expose_provenance() as u64
}

/// A descriptor as `union bpf_attr` has it.
pub(super) fn number(fd: BorrowedFd<'_>) -> io::Result<u32> {
    u32::try_from(fd.as_raw_fd()).map_err(io::Error::other)
}

/// One call; what it returns may be a descriptor that the kernel has just made for the caller.
///
/// # Safety
///
/// `attr` is the part of `union bpf_attr` that `command` reads. Whatever it points to lives until this returns, and is
/// as long as the kernel takes it to be.
#[expect(unsafe_code, reason = "there is no other way to bpf(2)")]
pub(super) unsafe fn call<A>(command: Command, attr: &mut A) -> io::Result<i32> {
    let size = size_of::<A>();
    let attr = std::ptr::from_mut(attr);
    // SAFETY: the attribute lives until the call returns and is as long as said; the rest is the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command as libc::c_long, attr, size) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(io::Error::other)
}
