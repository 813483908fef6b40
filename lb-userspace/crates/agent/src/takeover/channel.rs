//! The line between the agent in charge and its successor.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;
use tokio::time::timeout;

use crate::sys::{
    packets::{self, Arrived},
    reader::printable,
    watch::Watched,
};

/// Why nothing sensible came.
#[derive(Debug, Error)]
pub(crate) enum Silence {
    /// The other side ended.
    #[error("it ended")]
    Ended,
    /// It said nothing in time.
    #[error("it sent nothing for {}", humantime::format_duration(*.0))]
    Late(Duration),
    /// What it said is no message.
    #[error("unexpected message from peer: \"{0}\"")]
    Garbage(String),
    /// The system.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// One end of the line.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: OwnedFd,
    readable: Watched,
}

/// Characters of what is not understood that are shown.
const SHOWN: usize = 80;

impl Channel {
    /// The end behind `socket`.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            readable: Watched::readable(socket.try_clone()?)?,
            socket,
        })
    }

    /// Sends a message with copies of `descriptors`.
    pub(crate) fn say<T: Serialize>(
        &self,
        message: &T,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        packets::send(
            self.socket.as_fd(),
            &serde_json::to_vec(message)?,
            descriptors,
        )
    }

    /// The next message and its descriptors, within `limit`.
    pub(crate) async fn hear<T: DeserializeOwned>(
        &self,
        limit: Duration,
    ) -> Result<(T, Vec<OwnedFd>), Silence> {
        match timeout(limit, self.arrived()).await {
            Ok(arrived) => understand(arrived?),
            Err(_elapsed) => Err(Silence::Late(limit)),
        }
    }

    /// The next message, however long it takes.
    pub(crate) async fn hear_at_last<T: DeserializeOwned>(
        &self,
    ) -> Result<(T, Vec<OwnedFd>), Silence> {
        understand(self.arrived().await?)
    }

    async fn arrived(&self) -> io::Result<Arrived> {
        loop {
            match packets::receive(self.socket.as_fd()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.readable.next().await?;
                }
                result => return result,
            }
        }
    }
}

fn understand<T: DeserializeOwned>(arrived: Arrived) -> Result<(T, Vec<OwnedFd>), Silence> {
    match arrived {
        Arrived::End => Err(Silence::Ended),
        Arrived::Packet(bytes, descriptors) => match serde_json::from_slice(&bytes) {
            Ok(message) => Ok((message, descriptors)),
            Err(_other) => {
                let text = String::from_utf8_lossy(&bytes);
                let shown: String = printable(text.trim()).chars().take(SHOWN).collect();
                Err(Silence::Garbage(shown))
            }
        },
    }
}
