//! What /proc says about processes.

use std::collections::HashMap;

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

/// For each socket inode that one of `pids` has open: one of those who hold it.
pub fn socket_holders(pids: impl IntoIterator<Item = u32>) -> HashMap<u64, Holder> {
    let mut holders = HashMap::new();
    for pid in pids {
        let Some(process) = i32::try_from(pid)
            .ok()
            .and_then(|pid| Process::new(pid).ok())
        else {
            continue;
        };
        let Ok(fds) = process.fd() else {
            continue;
        };
        for fd in fds.filter_map(Result::ok) {
            if let FDTarget::Socket(inode) = fd.target {
                holders.entry(inode).or_insert(Holder { pid, fd: fd.fd });
            }
        }
    }
    holders
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

/// The command name of a process, or "?"; without what would drive a terminal, for the process
/// names itself.
pub fn name(pid: u32) -> String {
    i32::try_from(pid)
        .ok()
        .and_then(|pid| Process::new(pid).ok())
        .and_then(|process| process.stat().ok())
        .map_or_else(|| "?".to_owned(), |stat| printable(&stat.comm))
}

/// When a process started, in clock ticks since boot: with the pid, a name nobody else gets.
pub fn start_time(pid: u32) -> Option<u64> {
    let process = Process::new(i32::try_from(pid).ok()?).ok()?;
    let stat = process.stat().ok()?;
    (stat.state != 'Z').then_some(stat.starttime)
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
