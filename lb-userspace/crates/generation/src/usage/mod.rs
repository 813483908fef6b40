//! What a generation uses, read from its cgroup when it is asked for.
//!
//! hotlb's cgroups are on the version 2 tree, alone or beside version 1 ("hybrid"). There `cpu.stat`
//! and pressure need no controller; memory does. Where the memory controller is on version 1, a
//! cgroup of its own is used if the generation has one there (systemd makes one for each unit), else
//! its processes are added up.

mod files;
mod legacy;
mod processes;

use std::{io, os::unix::fs::MetadataExt as _, path::Path, time::Duration};

use self::legacy::Legacy;
use crate::sys::cgroup::Cgroup;

/// What a live generation uses. A value that cannot be read says why.
#[derive(Clone, Debug)]
pub struct Usage {
    /// CPU time.
    pub cpu: Reading<CpuTime>,
    /// Memory, in bytes.
    pub memory: Reading<u64>,
    /// The most memory it had, in bytes.
    pub memory_peak: Reading<u64>,
    /// How long it waited for each resource.
    pub pressure: [(Resource, Reading<Pressure>); 3],
    /// How many processes it has.
    pub processes: u64,
    /// Whether they are frozen.
    pub frozen: bool,
}

/// A value, or why there is none.
pub type Reading<T> = Result<Measured<T>, Unavailable>;

/// A value and where it is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured<T> {
    /// The value.
    pub value: T,
    /// Where it is from.
    pub source: Source,
}

/// Where a value is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The generation's cgroup, version 2.
    Cgroup2,
    /// A cgroup of version 1 that has exactly the generation's processes.
    Cgroup1,
    /// The processes, added up.
    Processes,
}

/// Why a value cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// The cgroup has no such file: the kernel is too old for it, or the controller is not
    /// enabled for this cgroup, or is on version 1 where the generation has no cgroup of its own.
    NoController,
    /// The kernel has it, switched off (`psi=0`, `cgroup.pressure`).
    SwitchedOff,
    /// Nothing is left to be measured.
    Ended,
    /// The file is there and cannot be read or understood.
    Unreadable,
}

/// CPU time used since the generation began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// In its own code.
    pub user: Duration,
    /// In the kernel.
    pub system: Duration,
}

/// Something one has to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// A CPU.
    Cpu,
    /// Memory.
    Memory,
    /// A disk.
    Io,
}

/// How long a resource was waited for since the generation began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// By at least one task.
    pub some: Duration,
    /// By all tasks that were not idle; kernels before 5.13 do not say so of the CPU.
    pub full: Option<Duration>,
}

impl Source {
    /// The label's value.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cgroup2 => "cgroup2",
            Self::Cgroup1 => "cgroup1",
            Self::Processes => "processes",
        }
    }
}

impl Unavailable {
    /// The label's value.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoController => "no_controller",
            Self::SwitchedOff => "switched_off",
            Self::Ended => "ended",
            Self::Unreadable => "unreadable",
        }
    }
}

impl Resource {
    const ALL: [Self; 3] = [Self::Cpu, Self::Memory, Self::Io];

    /// The label's value.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Io => "io",
        }
    }
}

/// Reads what generations use, at one moment.
#[derive(Debug)]
pub struct Reader {
    legacy: Legacy,
}

impl Reader {
    /// For the cgroups of this moment.
    pub fn now() -> Self {
        Self {
            legacy: Legacy::now(),
        }
    }

    /// What the generation in `cgroup` uses.
    pub fn read(&self, cgroup: &Cgroup) -> Usage {
        let pids = pids(cgroup);
        let path = cgroup.path();
        let [memory, memory_peak] = self.memory(path, &pids);
        Usage {
            cpu: or_else(files::cpu(path), || {
                let own = self.legacy.own("cpuacct", &pids);
                let read = own.map_or(Err(Unavailable::NoController), |dir| {
                    files::legacy_cpu(&dir)
                });
                or_else(read, || processes::cpu(&pids))
            }),
            memory,
            memory_peak,
            pressure: Resource::ALL.map(|resource| (resource, files::pressure(path, resource))),
            processes: pids.len() as u64,
            frozen: cgroup.is_frozen(),
        }
    }

    /// Memory now, and at most.
    fn memory(&self, path: &Path, pids: &[u32]) -> [Reading<u64>; 2] {
        let now = files::number(path, "memory.current");
        if now != Err(Unavailable::NoController) {
            return [now, files::number(path, "memory.peak")];
        }
        let Some(own) = self.legacy.own("memory", pids) else {
            return [processes::memory(pids), Err(Unavailable::NoController)];
        };
        ["memory.usage_in_bytes", "memory.max_usage_in_bytes"].map(|file| {
            files::number(&own, file).map(|read| Measured {
                source: Source::Cgroup1,
                ..read
            })
        })
    }
}

/// The processes in it and below it. Most cgroups have none below: their directory has two links
/// then, and need not be listed.
fn pids(cgroup: &Cgroup) -> Vec<u32> {
    let links = std::fs::metadata(cgroup.path()).map(|metadata| metadata.nlink());
    match links {
        Ok(2) => cgroup.own_pids(),
        _ => cgroup.pids(),
    }
}

/// Another source, where the first has no such value.
fn or_else<T>(first: Reading<T>, other: impl FnOnce() -> Reading<T>) -> Reading<T> {
    match first {
        Err(Unavailable::NoController) => other(),
        reading => reading,
    }
}

/// The text of a file of a cgroup.
fn text(directory: &Path, file: &str) -> Result<String, Unavailable> {
    std::fs::read_to_string(directory.join(file)).map_err(|error| why(&error, directory))
}

fn why(error: &io::Error, directory: &Path) -> Unavailable {
    match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::NotFound, _) if directory.is_dir() => Unavailable::NoController,
        // ENODEV: the cgroup was removed while the file was open.
        (io::ErrorKind::NotFound, _) | (_, Some(libc::ENODEV)) => Unavailable::Ended,
        (_, Some(libc::EOPNOTSUPP)) => Unavailable::SwitchedOff,
        _ => Unavailable::Unreadable,
    }
}
