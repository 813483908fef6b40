//! Waiting for a file descriptor within tokio.

use std::{io, os::fd::OwnedFd};

use tokio::io::{Interest, unix::AsyncFd};

/// A descriptor that is waited for.
#[derive(Debug)]
pub struct Watched {
    fd: AsyncFd<OwnedFd>,
    interest: Interest,
}

impl Watched {
    /// Waits for `fd` to become readable. Must be called within a tokio runtime.
    pub fn readable(fd: OwnedFd) -> io::Result<Self> {
        Self::new(fd, Interest::READABLE)
    }

    /// Waits for the kernel's notice (POLLPRI) that the file behind `fd` changed.
    pub fn changed(fd: OwnedFd) -> io::Result<Self> {
        Self::new(fd, Interest::PRIORITY)
    }

    #[expect(
        unsafe_code,
        reason = "tokio's safe constructors are deprecated as unsound"
    )]
    fn new(fd: OwnedFd, interest: Interest) -> io::Result<Self> {
        // SAFETY: an OwnedFd names one open descriptor for as long as it lives, and it lives
        // inside the AsyncFd, which nothing here moves it out of.
        let fd = unsafe { AsyncFd::register_with_interest(fd, interest) }?;
        Ok(Self { fd, interest })
    }

    /// Returns when it happens (again).
    pub async fn next(&self) -> io::Result<()> {
        self.fd.ready(self.interest).await?.clear_ready();
        Ok(())
    }
}
