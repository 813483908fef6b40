//! The agent's side.

use std::{
    io::{self, Read as _, Write as _},
    net::Shutdown,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use thiserror::Error;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
    time::timeout,
};

use super::protocol::{Parked, Reply, Request};
use crate::sys::{cgroup::Cgroup, listener::Twin, netns::Netns, pidfd::Pidfd, process};

/// The keeper could not do it.
#[derive(Debug, Error)]
pub enum KeeperError {
    /// It does not run, or does not answer.
    #[error("the keeper at {path} does not answer: {source}")]
    Unreachable {
        /// Its socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It could not be started.
    #[error("the keeper could not be started: {0}")]
    NotStarted(io::Error),
    /// A parking listener could not be opened.
    #[error("cannot listen on {}: {source}", twin.address)]
    Open {
        /// Which one.
        twin: Twin,
        /// What the system said.
        source: io::Error,
    },
    /// Its descriptor could not be duplicated.
    #[error("cannot take the parking listener on {}: {source}", twin.address)]
    Take {
        /// Which one.
        twin: Twin,
        /// What the system said.
        source: io::Error,
    },
}

/// A service's keeper.
#[derive(Clone, Debug)]
pub struct Keeper {
    socket: PathBuf,
    pid: u32,
    started: Option<u64>,
}

const PATIENCE: Duration = Duration::from_secs(5);

impl Keeper {
    /// The keeper at `socket`, started in `cgroup` and `netns` if none answers there. Says whether it was
    /// there already.
    pub async fn find_or_start(
        socket: PathBuf,
        cgroup: &Cgroup,
        netns: &Netns,
    ) -> Result<(Self, bool), KeeperError> {
        if let Ok(found) = Self::find(&socket) {
            return Ok((found, true));
        }
        start(&socket, cgroup, netns)
            .await
            .map_err(KeeperError::NotStarted)?;
        Ok((Self::find(&socket)?, false))
    }

    /// The keeper that answers at `socket`.
    pub fn find(socket: &Path) -> Result<Self, KeeperError> {
        let mut keeper = Self {
            socket: socket.to_owned(),
            pid: 0,
            started: None,
        };
        let unreachable = |source| KeeperError::Unreachable {
            path: socket.to_owned(),
            source,
        };
        let stream = UnixStream::connect(socket).map_err(unreachable)?;
        let peer = getsockopt(&stream, PeerCredentials).map_err(|e| unreachable(e.into()))?;
        drop(stream);
        keeper.pid = u32::try_from(peer.pid()).map_err(|e| unreachable(io::Error::other(e)))?;
        keeper.started = process::start_time(keeper.pid);
        keeper.list()?;
        Ok(keeper)
    }

    /// The network namespace it is in.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn netns(&self) -> io::Result<Netns> {
        Netns::of_process(self.pid)
    }

    /// Whether its process lives.
    pub fn is_alive(&self) -> bool {
        let started = process::start_time(self.pid);
        started.is_some() && started == self.started
    }

    /// Opens a parking listener.
    pub fn open(&self, twin: Twin) -> Result<Parked, KeeperError> {
        match self.ask(&Request::Open(twin))? {
            Reply::Parked(parked) => parked.first().copied().ok_or_else(|| KeeperError::Open {
                twin,
                source: io::Error::other("the keeper answered nothing"),
            }),
            Reply::Failed(errno, text) => Err(KeeperError::Open {
                twin,
                source: errno.map_or_else(|| io::Error::other(text), io::Error::from_raw_os_error),
            }),
        }
    }

    /// Closes one. What waited in it moves to whom `steer` chooses.
    pub fn close(&self, cookie: u64) -> Result<(), KeeperError> {
        self.ask(&Request::Close(cookie)).map(drop)
    }

    /// All it holds.
    pub fn list(&self) -> Result<Vec<Parked>, KeeperError> {
        match self.ask(&Request::List)? {
            Reply::Parked(parked) => Ok(parked),
            Reply::Failed(_, text) => Err(self.unreachable(io::Error::other(text))),
        }
    }

    /// Has it close everything and end.
    pub fn quit(&self) -> Result<(), KeeperError> {
        self.ask(&Request::Quit).map(drop)
    }

    /// A duplicate of a parking listener's descriptor. Give it up soon: as long as it is open,
    /// closing the listener moves nobody.
    pub fn take(&self, parked: &Parked) -> Result<OwnedFd, KeeperError> {
        Pidfd::open(self.pid)
            .and_then(|pidfd| pidfd.take(parked.fd))
            .map_err(|source| KeeperError::Take {
                twin: parked.twin,
                source,
            })
    }

    fn ask(&self, request: &Request) -> Result<Reply, KeeperError> {
        self.converse(request)
            .map_err(|source| self.unreachable(source))
    }

    fn converse(&self, request: &Request) -> io::Result<Reply> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(&serde_json::to_vec(request).map_err(io::Error::other)?)?;
        stream.shutdown(Shutdown::Write)?;
        let mut text = Vec::new();
        stream.read_to_end(&mut text)?;
        serde_json::from_slice(&text).map_err(io::Error::other)
    }

    fn unreachable(&self, source: io::Error) -> KeeperError {
        KeeperError::Unreachable {
            path: self.socket.clone(),
            source,
        }
    }
}

async fn start(socket: &Path, cgroup: &Cgroup, netns: &Netns) -> io::Result<()> {
    let mut command = Command::new("/proc/self/exe");
    command
        .arg("__keep")
        .arg("--socket")
        .arg(socket)
        .arg("--cgroup")
        .arg(cgroup.path())
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = netns.spawn(&mut command)?;
    let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let mut line = String::new();
    timeout(PATIENCE, BufReader::new(stdout).read_line(&mut line)).await??;
    if line == "ready\n" {
        Ok(())
    } else {
        let status = timeout(PATIENCE, child.wait()).await??;
        Err(io::Error::other(format!("it ended at once: {status}")))
    }
}
