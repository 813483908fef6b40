//! A process that hotlb did not start: whether it can be a generation, and where it lives.
//!
//! A socket belongs to the cgroup in which it was made. So a generation is told from everybody
//! else by its cgroup, and a process can be one only if it has its cgroup for itself.

use std::{io, path::PathBuf};

use thiserror::Error;

use crate::sys::{
    cgroup::Cgroup,
    inspect::{self, Inspected},
    netns::Netns,
    process,
};

/// What the names of cgroups begin with that hotlb makes in somebody else's.
const NESTED: &str = "hotlb-";
/// Strangers that an error names; there may be hundreds in a login session.
const NAMED: usize = 4;

/// Why a process cannot be a generation.
#[derive(Debug, Error)]
pub enum Unfit {
    /// There is no such process.
    #[error("there is no process {0}; `ss -ltnp` shows which process listens where")]
    NoProcess(u32),
    /// It is a part of the kernel.
    #[error("process {0} is a kernel thread, not a server")]
    KernelThread(u32),
    /// It is in another network.
    #[error(
        "{0} is in another network namespace than the service; set netns in the service's section \
         to that one: its file in /run/netns, or \"/proc/{1}/ns/net\" while it runs"
    )]
    OtherNetwork(String, u32),
    /// It has no cgroup that can be used.
    #[error(
        "{who} is in the root of the cgroup2 tree ({cgroup}), like every process that was not put \
         elsewhere: its sockets cannot be told from theirs. Start it in a cgroup of its own once: \
         under `hotlb exec`, as a systemd service, or with systemd-run"
    )]
    NoCgroup {
        /// The process.
        who: String,
        /// Its cgroup, as /proc names it.
        cgroup: PathBuf,
    },
    /// Others are in its cgroup too.
    #[error(
        "{who} shares its cgroup {cgroup} with {others}: its sockets cannot be told from theirs. \
         Start it in a cgroup of its own once: under `hotlb exec`, as a systemd service, or with \
         systemd-run{}",
        advice(unit.as_deref())
    )]
    Shared {
        /// The process.
        who: String,
        /// Its cgroup, as /proc names it.
        cgroup: PathBuf,
        /// Those who are neither it nor its children.
        others: String,
        /// The systemd service whose cgroup it is.
        unit: Option<String>,
    },
    /// The system does not say.
    #[error("cannot look at process {pid}: {source}")]
    Unreadable {
        /// The process.
        pid: u32,
        /// What it said.
        source: io::Error,
    },
}

/// A process that can be a generation.
#[derive(Clone, Debug)]
pub struct Adoptee {
    /// The process.
    pub process: Inspected,
    /// Its cgroup, which is its supervisor's.
    pub cgroup: Cgroup,
    /// Its name and pid, for messages.
    pub who: String,
}

/// Looks whether process `pid` can be a generation as it runs. With `whole_unit`, everything in
/// its cgroup is known to be its own.
///
/// # Errors
///
/// See [`Unfit`].
pub fn examine(pid: u32, whole_unit: bool, netns: &Netns) -> Result<Adoptee, Unfit> {
    let process = caller(pid, netns)?;
    let who = describe(pid);
    let unreadable = |source| Unfit::Unreadable { pid, source };
    let Some(cgroup) = process.cgroup_dir().map_err(unreadable)? else {
        return Err(Unfit::NoCgroup {
            who,
            cgroup: process.cgroup,
        });
    };
    let strangers = strangers(pid, cgroup.pids());
    if !whole_unit && !strangers.is_empty() {
        return Err(Unfit::Shared {
            who,
            cgroup: process.cgroup.clone(),
            others: listing(&strangers),
            unit: process.unit(),
        });
    }
    Ok(Adoptee {
        process,
        cgroup,
        who,
    })
}

/// Process `pid`, if it is one, and in this network.
///
/// # Errors
///
/// See [`Unfit`].
pub fn caller(pid: u32, netns: &Netns) -> Result<Inspected, Unfit> {
    let unreadable = |source| Unfit::Unreadable { pid, source };
    let process = inspect::inspect(pid)
        .map_err(unreadable)?
        .ok_or(Unfit::NoProcess(pid))?;
    if process.is_kernel_thread {
        return Err(Unfit::KernelThread(pid));
    }
    if process.netns != netns.inode().map_err(unreadable)? {
        return Err(Unfit::OtherNetwork(describe(pid), pid));
    }
    Ok(process)
}

/// The cgroup of a process that has it for itself, as that of a systemd service's main process:
/// a generation can live below it, where its supervisor goes on to account for it and to end it.
pub fn own_room(process: &Inspected) -> Option<Cgroup> {
    let room = process.cgroup_dir().ok().flatten()?;
    let nested = |cgroup: &Cgroup| {
        let below = cgroup.path().strip_prefix(room.path()).ok();
        let first = below.and_then(|below| below.iter().next());
        first.is_some_and(|name| name.to_string_lossy().starts_with(NESTED))
    };
    // What earlier lives of the same service left in their own cgroups is no stranger.
    let here = room.subtree().into_iter().filter(|cgroup| !nested(cgroup));
    let pids = here.flat_map(|cgroup| cgroup.own_pids());
    strangers(process.pid, pids).is_empty().then_some(room)
}

/// The name of the cgroup that a generation gets in its supervisor's.
pub fn nested(id: u32, name: &str) -> String {
    format!("{NESTED}{id}-{name}")
}

fn strangers(main: u32, pids: impl IntoIterator<Item = u32>) -> Vec<u32> {
    pids.into_iter()
        .filter(|&pid| !inspect::descends(pid, main))
        // One that has ended meanwhile has no parent either.
        .filter(|&pid| process::start_time(pid).is_some())
        .collect()
}

/// A process as messages name it.
pub fn describe(pid: u32) -> String {
    format!("{} (pid {pid})", process::name(pid))
}

fn listing(pids: &[u32]) -> String {
    let named: Vec<String> = pids.iter().take(NAMED).map(|&pid| describe(pid)).collect();
    match pids.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

fn advice(unit: Option<&str>) -> String {
    unit.map_or_else(String::new, |unit| {
        format!(". If all of {unit} is the server, use --unit {unit}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_shares_its_cgroup_is_refused_by_name() {
        // The tests run beside the shell that started them.
        let error = examine(std::process::id(), false, &Netns::own())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("its sockets cannot be told from theirs"),
            "{error}"
        );
        assert!(error.contains("hotlb exec"), "{error}");
    }

    #[test]
    fn nobody_and_the_kernel_are_refused() {
        assert!(matches!(
            examine(0, false, &Netns::own()),
            Err(Unfit::NoProcess(0))
        ));
        assert!(matches!(
            examine(u32::MAX, false, &Netns::own()),
            Err(Unfit::NoProcess(_))
        ));
        // kthreadd, in the host's own pid namespace.
        if process::name(2) == "kthreadd" {
            assert!(matches!(
                examine(2, false, &Netns::own()),
                Err(Unfit::KernelThread(2))
            ));
        }
    }

    #[test]
    fn only_the_first_strangers_are_named() {
        let text = listing(&[std::process::id(); 9]);
        assert!(text.ends_with("and 5 more"), "{text}");
    }
}
