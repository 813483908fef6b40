//! Replacing the program of a link, and links to cgroups and devices.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use super::bpf_raw::{Command, address, call, number};

const BPF_TCX_EGRESS: u32 = 47;
const BPF_F_AFTER: u32 = 1 << 4;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
/// `r0 = TCX_NEXT`, and the end.
static PASS_ON: [u64; 2] = [0xffff_ffff_0000_00b7, 0x95];

/// The part of `union bpf_attr` that `BPF_PROG_LOAD` reads at least.
#[repr(C)]
struct LoadAttr {
    kind: u32,
    length: u32,
    instructions: u64,
    license: u64,
}

/// The part of `union bpf_attr` that `BPF_LINK_UPDATE` reads.
#[repr(C)]
struct UpdateAttr {
    link_fd: u32,
    program_fd: u32,
    flags: u32,
    replaced_fd: u32,
}

/// The part of `union bpf_attr` that `BPF_LINK_CREATE` reads for a cgroup.
#[repr(C)]
struct CgroupAttr {
    program_fd: u32,
    cgroup_fd: u32,
    attach_type: u32,
    flags: u32,
}

/// The part of `union bpf_attr` that `BPF_LINK_CREATE` reads for a device.
#[repr(C)]
struct DeviceAttr {
    program_fd: u32,
    device: u32,
    attach_type: u32,
    flags: u32,
    beside: u32,
    _padding: u32,
    revision: u64,
}

/// What a program sees of a cgroup's processes: `enum bpf_attach_type`, as far as it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Seen {
    /// bind(2) of IPv4 sockets.
    Bind4 = 8,
    /// bind(2) of IPv6 sockets.
    Bind6 = 9,
    /// setsockopt(2).
    SetOption = 22,
}

/// Has a program see what the processes of a cgroup do, those in its children too, until the link is gone.
///
/// # Errors
///
/// EINVAL: the program is of another kind.
#[expect(
    unsafe_code,
    reason = "aya gives no descriptor of such a link for each kind, so that it cannot be pinned"
)]
pub fn link_to_cgroup(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    seen: Seen,
) -> io::Result<OwnedFd> {
    let mut attr = CgroupAttr {
        program_fd: number(program)?,
        cgroup_fd: number(cgroup)?,
        attach_type: seen as u32,
        flags: 0,
    };
    // SAFETY: the attribute is what the call reads, and holds no pointers.
    let link = unsafe { call(Command::MakeLink, &mut attr) }?;
    // SAFETY: the call has just made it for this process.
    Ok(unsafe { OwnedFd::from_raw_fd(link) })
}

/// Has another program of the same kind run where `link` is attached, from one event to the next.
///
/// # Errors
///
/// ENOLINK: what it was attached to is gone. EINVAL: a link of this kind keeps its program.
#[expect(unsafe_code, reason = "aya has no such call")]
pub fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = UpdateAttr {
        link_fd: number(link)?,
        program_fd: number(program)?,
        flags: 0,
        replaced_fd: 0,
    };
    // SAFETY: the attribute is what the call reads, and holds no pointers.
    unsafe { call(Command::UpdateLink, &mut attr) }.map(drop)
}

/// Whether the kernel has links of tc programs to devices (tcx). It looks for the device then, and there is none of
/// number 0; one that does not know them says that the call makes no sense.
///
/// # Errors
///
/// When it says neither, or takes no tc program at all.
pub fn takes_links_to_devices() -> io::Result<bool> {
    let program = one_that_passes_on()?;
    let made = link_to_device(program.as_fd(), 0);
    match made.map_err(|error| (error.raw_os_error(), error)) {
        Err((Some(libc::ENODEV), _)) => Ok(true),
        Err((Some(libc::EINVAL), _)) => Ok(false),
        Err((_, error)) => Err(error),
        Ok(_) => Err(io::Error::other("a link to no device was made")),
    }
}

/// Has a tc program see what the device of this thread's network namespace sends, behind those that are there, until
/// the link is closed.
///
/// # Errors
///
/// ENODEV: there is no such device. EINVAL: the kernel has no links of tc programs.
#[expect(
    unsafe_code,
    reason = "aya attaches by names, which may be another device's by now, and keeps the whole object for it"
)]
pub fn link_to_device(program: BorrowedFd<'_>, device: u32) -> io::Result<OwnedFd> {
    let mut attr = DeviceAttr {
        program_fd: number(program)?,
        device,
        attach_type: BPF_TCX_EGRESS,
        flags: BPF_F_AFTER,
        beside: 0,
        _padding: 0,
        revision: 0,
    };
    // SAFETY: the attribute is what the call reads, and holds no pointers.
    let link = unsafe { call(Command::MakeLink, &mut attr) }?;
    // SAFETY: the call has just made it for this process.
    Ok(unsafe { OwnedFd::from_raw_fd(link) })
}

/// The least tc program: the next one decides.
#[expect(
    unsafe_code,
    reason = "aya loads programs of an object, and takes half a second to read the kernel's types for it"
)]
fn one_that_passes_on() -> io::Result<OwnedFd> {
    let mut attr = LoadAttr {
        kind: BPF_PROG_TYPE_SCHED_CLS,
        length: 2,
        instructions: address(PASS_ON.as_ptr()),
        license: address(c"Dual MIT/GPL".as_ptr()),
    };
    // SAFETY: the attribute is what the call reads; its instructions and license are the program's own.
    let loaded = unsafe { call(Command::LoadProgram, &mut attr) }?;
    // SAFETY: the call has just made it for this process.
    Ok(unsafe { OwnedFd::from_raw_fd(loaded) })
}
