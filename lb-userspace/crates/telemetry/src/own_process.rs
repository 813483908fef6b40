//! What the agent itself uses.

use std::time::Duration;

use procfs::{ProcResult, WithCurrentSystemInfo as _, process::Process};

/// The agent's process now.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnProcess {
    /// CPU time, user and system.
    pub cpu: Duration,
    /// Resident memory, in bytes.
    pub resident: u64,
    /// Virtual memory, in bytes.
    pub virtual_memory: u64,
    /// Open file descriptors.
    pub open_fds: u64,
    /// How many it may have; `None` for no limit.
    pub max_fds: Option<u64>,
    /// When it started, in seconds since 1970.
    pub started: u64,
    /// Threads.
    pub threads: u64,
}

impl OwnProcess {
    /// Reads it from /proc.
    ///
    /// # Errors
    ///
    /// When /proc does not say.
    pub fn read() -> ProcResult<Self> {
        let own = Process::myself()?;
        let stat = own.stat()?;
        let hertz = procfs::ticks_per_second();
        let ticks = |ticks: u64| Duration::from_millis(ticks * 1000 / hertz);
        let limits = own.limits()?;
        Ok(Self {
            cpu: ticks(stat.utime + stat.stime),
            resident: stat.rss_bytes().get(),
            virtual_memory: stat.vsize,
            open_fds: own.fd_count()? as u64,
            max_fds: match limits.max_open_files.soft_limit {
                procfs::process::LimitValue::Value(limit) => Some(limit),
                procfs::process::LimitValue::Unlimited => None,
            },
            started: procfs::boot_time_secs()? + stat.starttime / hertz,
            threads: u64::try_from(stat.num_threads).unwrap_or_default(),
        })
    }
}
