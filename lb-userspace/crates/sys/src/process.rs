//! What /proc says about processes.

use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
};

use nix::sys::signal::Signal;
use procfs::process::{FDTarget, Process};

use super::reader::printable;

/// Where a socket is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The process.
    pub pid: u32,
    /// Its file descriptor.
    pub fd: i32,
}

/// For each socket inode that one of `pids` has open: all who hold it, for any of them may be about
/// to end.
pub fn socket_holders(pids: impl IntoIterator<Item = u32>) -> HashMap<u64, Vec<Holder>> {
    let mut holders: HashMap<u64, Vec<Holder>> = HashMap::new();
    for pid in pids {
        for (inode, holder) in sockets(pid) {
            holders.entry(inode).or_default().push(holder);
        }
    }
    holders
}

/// What sockets the process has open, as they are read one by one.
fn sockets(pid: u32) -> impl Iterator<Item = (u64, Holder)> {
    let process = i32::try_from(pid).ok().and_then(|p| Process::new(p).ok());
    let fds = process.and_then(|process| process.fd().ok());
    let fds = fds.into_iter().flatten().filter_map(Result::ok);
    fds.filter_map(move |fd| match fd.target {
        FDTarget::Socket(inode) => Some((inode, Holder { pid, fd: fd.fd })),
        _ => None,
    })
}

/// Those of `pids` that have one of these sockets open, by inode.
pub fn holding(pids: impl IntoIterator<Item = u32>, inodes: &BTreeSet<u64>) -> Vec<u32> {
    // A server's listeners are among its first descriptors, and its connections may be many.
    let holds = |&pid: &u32| sockets(pid).any(|(inode, _)| inodes.contains(&inode));
    pids.into_iter().filter(holds).collect()
}

/// What a process was started from, and shows as its command line. It may write there what it
/// likes; the file is the kernel's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its program, as the process sees it.
    pub exe: PathBuf,
    /// Its command line.
    pub words: Vec<String>,
    /// Its current directory.
    pub cwd: PathBuf,
}

/// What a process runs; `None` when it is gone, or a part of the kernel.
pub fn image(pid: u32) -> Option<Image> {
    let process = Process::new(i32::try_from(pid).ok()?).ok()?;
    Some(Image {
        exe: process.exe().ok()?,
        words: process.cmdline().unwrap_or_default(),
        cwd: process.cwd().unwrap_or_default(),
    })
}

/// All processes.
pub fn all_pids() -> Vec<u32> {
    procfs::process::all_processes().map_or_else(
        |_unreadable| Vec::new(),
        |processes| {
            processes
                .filter_map(Result::ok)
                .filter_map(|process| u32::try_from(process.pid).ok())
                .collect()
        },
    )
}

/// The command name of a process while there is one; without what would drive a terminal, for the
/// process names itself.
pub fn known_name(pid: u32) -> Option<String> {
    let process = Process::new(i32::try_from(pid).ok()?).ok()?;
    let stat = process.stat().ok()?;
    Some(printable(&stat.comm))
}

/// The same, or "?".
pub fn name(pid: u32) -> String {
    known_name(pid).unwrap_or_else(|| "?".to_owned())
}

/// When a process started, in clock ticks since boot: with the pid, a name nobody else gets.
pub fn start_time(pid: u32) -> Option<u64> {
    let process = Process::new(i32::try_from(pid).ok()?).ok()?;
    let stat = process.stat().ok()?;
    (stat.state != 'Z').then_some(stat.starttime)
}

/// Whether a process was stopped (SIGSTOP, or who traces it).
pub fn is_stopped(pid: u32) -> bool {
    i32::try_from(pid)
        .ok()
        .and_then(|pid| Process::new(pid).ok())
        .and_then(|process| process.stat().ok())
        .is_some_and(|stat| matches!(stat.state, 'T' | 't'))
}

/// Whether a process was killed or ends: its files, locks and addresses are its own until its last thread is gone.
pub fn is_ending(pid: u32) -> bool {
    /// `PF_EXITING` (`linux/sched.h`): the ninth field of `/proc/PID/stat`.
    const EXITING: u32 = 0x4;
    const KILLED: u64 = 1 << (Signal::SIGKILL as i32 - 1);
    let process = i32::try_from(pid)
        .ok()
        .and_then(|pid| Process::new(pid).ok());
    process.is_some_and(|process| {
        process
            .status()
            .is_ok_and(|status| (status.sigpnd | status.shdpnd) & KILLED != 0)
            || process
                .stat()
                .is_ok_and(|stat| matches!(stat.state, 'Z' | 'X') || stat.flags & EXITING != 0)
    })
}

/// Whether a process has a handler for `signal`; one that has none dies of most.
pub fn catches(pid: u32, signal: Signal) -> bool {
    let bit = 1_u64 << (signal as i32 - 1).clamp(0, 63);
    i32::try_from(pid)
        .ok()
        .and_then(|pid| Process::new(pid).ok())
        .and_then(|process| process.status().ok())
        .is_some_and(|status| status.sigcgt & bit != 0)
}

/// The id of this boot: pids, cookies and pins of another one mean nothing.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}
