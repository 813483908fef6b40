//! The agent's side.

use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nix::sys::signal::{Signal, kill};
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    process::Command,
};

use super::{
    NAME,
    protocol::{Parked, Reply, Request},
};
use crate::{
    ready::ready,
    sys::{
        cgroup::Cgroup,
        listener::GroupKey,
        netns::Netns,
        pidfd::Pidfd,
        process,
        sock_diag::{self, Protocol},
    },
};

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
    #[error("cannot listen on {}: {source}", group_key.address)]
    Open {
        /// Which one.
        group_key: GroupKey,
        /// What the system said.
        source: io::Error,
    },
    /// Its descriptor could not be duplicated.
    #[error("cannot take the parking listener on {}: {source}", group_key.address)]
    Take {
        /// Which one.
        group_key: GroupKey,
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
    /// Longest wait for an answer. Without one it ends with the keeper.
    patience: Option<Duration>,
}

/// Longest wait of who does something else than wait for the keeper.
pub const PATIENCE: Duration = Duration::from_secs(5);

impl Keeper {
    /// The keeper at `socket`, started in `cgroup` and `netns` if none answers there. Says whether it was
    /// there already.
    pub async fn find_or_start(
        socket: PathBuf,
        cgroup: &Cgroup,
        netns: &Netns,
    ) -> Result<(Self, bool), KeeperError> {
        if let Ok(found) = Self::find(&socket).await {
            return Ok((found, true));
        }
        // One whose socket is gone holds its listeners on: clients wait in them.
        let lost = orphans(cgroup, netns);
        start(&socket, cgroup, netns)
            .await
            .map_err(KeeperError::NotStarted)?;
        let keeper = Self::find(&socket).await?;
        let mut kept = false;
        for (pid, parked) in lost {
            match keeper.take_over(pid, parked).await {
                Ok(()) => kept = true,
                Err(error) => tracing::error!(
                    %error,
                    pid,
                    "failed to take over the listeners of the former keeper"
                ),
            }
        }
        Ok((keeper, kept))
    }

    /// Has it take over what the keeper `pid` holds, and ends that one.
    async fn take_over(&self, pid: u32, parked: Vec<Parked>) -> Result<(), KeeperError> {
        if !parked.is_empty()
            && let Reply::Failed(_, text) = self.ask(&Request::Take { pid, parked }).await?
        {
            return Err(self.unreachable(io::Error::other(text)));
        }
        tracing::info!(pid, "replaced a keeper that could not be reached");
        let former = i32::try_from(pid).map(nix::unistd::Pid::from_raw);
        // It may have ended meanwhile.
        let _gone = former.map(|pid| kill(pid, Signal::SIGKILL));
        Ok(())
    }

    /// Whether its socket is where it was made.
    pub fn has_socket(&self) -> bool {
        self.socket.exists()
    }

    /// The keeper that answers at `socket`.
    pub async fn find(socket: &Path) -> Result<Self, KeeperError> {
        let mut keeper = Self {
            socket: socket.to_owned(),
            pid: 0,
            started: None,
            patience: Some(PATIENCE),
        };
        let unreachable = |source| KeeperError::Unreachable {
            path: socket.to_owned(),
            source,
        };
        let stream = UnixStream::connect(socket).await.map_err(unreachable)?;
        let peer = stream.peer_cred().map_err(unreachable)?;
        drop(stream);
        let pid = peer.pid().and_then(|pid| u32::try_from(pid).ok());
        keeper.pid = pid.ok_or_else(|| unreachable(io::ErrorKind::NotConnected.into()))?;
        keeper.started = process::start_time(keeper.pid);
        keeper.list().await?;
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

    /// Its process.
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether its process lives.
    pub fn is_alive(&self) -> bool {
        let started = process::start_time(self.pid);
        started.is_some() && started == self.started
    }

    /// Opens a parking listener.
    pub async fn open(&self, group_key: GroupKey) -> Result<Parked, KeeperError> {
        match self.ask(&Request::Open(group_key)).await? {
            Reply::Parked(parked) => parked.first().copied().ok_or_else(|| KeeperError::Open {
                group_key,
                source: io::Error::other("the keeper sent no listener"),
            }),
            Reply::Failed(errno, text) => Err(KeeperError::Open {
                group_key,
                source: errno.map_or_else(|| io::Error::other(text), io::Error::from_raw_os_error),
            }),
        }
    }

    /// Closes one. What waited in it moves to whom `steer` chooses.
    pub async fn close(&self, cookie: u64) -> Result<(), KeeperError> {
        self.ask(&Request::Close(cookie)).await.map(drop)
    }

    /// All it holds.
    pub async fn list(&self) -> Result<Vec<Parked>, KeeperError> {
        match self.ask(&Request::List).await? {
            Reply::Parked(parked) => Ok(parked),
            Reply::Failed(_, text) => Err(self.unreachable(io::Error::other(text))),
        }
    }

    /// Has it close everything and end.
    pub async fn quit(&self) -> Result<(), KeeperError> {
        self.ask(&Request::Quit).await.map(drop)
    }

    /// A duplicate of a parking listener's descriptor. Give it up soon: as long as it is open,
    /// closing the listener moves nobody.
    pub fn take(&self, parked: &Parked) -> Result<OwnedFd, KeeperError> {
        Pidfd::open(self.pid)
            .and_then(|pidfd| pidfd.take(parked.fd))
            .map_err(|source| KeeperError::Take {
                group_key: parked.group_key,
                source,
            })
    }

    async fn ask(&self, request: &Request) -> Result<Reply, KeeperError> {
        let answer = match self.patience {
            Some(limit) => tokio::time::timeout(limit, self.converse(request)).await,
            None => Ok(self.converse(request).await),
        };
        match answer {
            Ok(answer) => answer.map_err(|source| self.unreachable(source)),
            Err(_elapsed) => Err(self.silent()),
        }
    }

    /// Whoever gives up in the middle leaves nothing behind: the keeper undoes what it cannot tell.
    async fn converse(&self, request: &Request) -> io::Result<Reply> {
        let mut stream = UnixStream::connect(&self.socket).await?;
        stream
            .write_all(&serde_json::to_vec(request).map_err(io::Error::other)?)
            .await?;
        stream.shutdown().await?;
        let mut text = Vec::new();
        stream.read_to_end(&mut text).await?;
        serde_json::from_slice(&text).map_err(io::Error::other)
    }

    /// The same keeper, for who waits for as long as it lives.
    #[must_use]
    pub fn without_limit(self) -> Self {
        Self {
            patience: None,
            ..self
        }
    }

    /// It lives, and does not answer.
    pub fn silent(&self) -> KeeperError {
        self.unreachable(io::ErrorKind::TimedOut.into())
    }

    fn unreachable(&self, source: io::Error) -> KeeperError {
        KeeperError::Unreachable {
            path: self.socket.clone(),
            source,
        }
    }
}

/// Keepers in `cgroup`, and the parking listeners they hold.
fn orphans(cgroup: &Cgroup, netns: &Netns) -> Vec<(u32, Vec<Parked>)> {
    let keepers = cgroup.own_pids().into_iter();
    let keepers: Vec<u32> = keepers.filter(|&pid| process::name(pid) == NAME).collect();
    if keepers.is_empty() {
        return Vec::new();
    }
    let listening = sock_diag::waiting(netns, Protocol::Tcp).unwrap_or_default();
    let parked_by = |pid| {
        let held = process::socket_holders([pid]);
        let parked = listening.iter().filter_map(|socket| {
            Some(Parked {
                group_key: GroupKey {
                    address: socket.address,
                    v6only: socket.v6only,
                    uid: socket.uid,
                },
                cookie: socket.cookie,
                fd: held.get(&socket.inode)?.first()?.fd,
            })
        });
        (pid, parked.collect())
    };
    keepers.into_iter().map(parked_by).collect()
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
    ready(netns.spawn(&mut command)?).await
}
