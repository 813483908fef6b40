//! Processes by file descriptor: a pid that cannot be reused under our hands.

use std::{io, os::fd::OwnedFd, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::retry_on_intr,
    process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open},
};

use super::watch::Watched;

/// A process.
#[derive(Debug)]
pub struct Pidfd(OwnedFd);

impl Pidfd {
    /// Opens process `pid`.
    ///
    /// # Errors
    ///
    /// ESRCH if it does not exist.
    pub fn open(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid)
            .ok()
            .and_then(Pid::from_raw)
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        // Non-blocking is what AsyncFd wants; pidfds know no other way to fail.
        Ok(Self(pidfd_open(pid, PidfdFlags::NONBLOCK)?))
    }

    /// A duplicate of the process's file descriptor `fd`.
    ///
    /// # Errors
    ///
    /// EPERM without `CAP_SYS_PTRACE`, EBADF if it closed it meanwhile.
    pub fn take(&self, fd: i32) -> io::Result<OwnedFd> {
        Ok(pidfd_getfd(&self.0, fd, PidfdGetfdFlags::empty())?)
    }

    /// Whether its last thread ends within `limit`.
    ///
    /// # Errors
    ///
    /// When the kernel cannot be asked.
    pub fn ended_within(&self, limit: Duration) -> io::Result<bool> {
        let limit = Timespec::try_from(limit).map_err(io::Error::other)?;
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        Ok(retry_on_intr(|| poll(&mut fds, Some(&limit)))? == 1)
    }

    /// Waits until the process has ended.
    pub async fn ended(self) -> io::Result<()> {
        Watched::readable(self.0)?.next().await
    }
}
