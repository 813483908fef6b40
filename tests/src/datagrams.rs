//! UDP clients: each keeps its port, so that all it sends is one flow.

use std::{
    ffi::c_int,
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};

use crate::{netns::Netns, patience};

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(2);

/// A client with a port of its own.
#[derive(Debug)]
pub struct Client {
    socket: UdpSocket,
}

/// What came of one datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// An answer.
    By(String),
    /// ICMP said that nobody is there.
    Refused,
    /// Nothing.
    Lost,
}

impl Client {
    /// A client of `target` in the namespace.
    pub fn new(netns: &Netns, target: SocketAddr) -> Result<Self> {
        let socket = netns.run(|| {
            let any = if target.is_ipv4() {
                "0.0.0.0:0"
            } else {
                "[::]:0"
            };
            let socket = UdpSocket::bind(any)?;
            socket.connect(target)?;
            Ok::<_, std::io::Error>(socket)
        })??;
        socket.set_read_timeout(Some(patience::of(LIMIT)))?;
        Ok(Self { socket })
    }

    /// So many of them.
    pub fn several(netns: &Netns, target: SocketAddr, count: usize) -> Result<Vec<Self>> {
        (0..count).map(|_| Self::new(netns, target)).collect()
    }

    /// Where its datagrams come from.
    pub fn address(&self) -> Result<SocketAddr> {
        Ok(self.socket.local_addr()?)
    }

    /// Sends one datagram and waits for what comes of it.
    pub fn send(&self, text: &str) -> Result<Reply> {
        match self.socket.send(text.as_bytes()) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                return Ok(Reply::Refused);
            }
            sent => sent.context("send a datagram")?,
        };
        let mut answer = [0; 2048];
        match self.socket.recv(&mut answer) {
            Ok(length) => {
                let answer = answer.get(..length).unwrap_or_default();
                Ok(Reply::By(String::from_utf8_lossy(answer).into_owned()))
            }
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(Reply::Refused),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Reply::Lost),
            Err(error) => bail!("no answer: {error}"),
        }
    }

    /// Sends so many datagrams as one train, which the kernel takes apart only when the server reads
    /// (`UDP_SEGMENT`, kernel 4.18+); who answers each of them.
    pub fn train(&self, datagrams: usize) -> Result<Vec<String>> {
        const EACH: &[u8] = b"?";
        setsockopt(&self.socket, UdpGsoSegment, &c_int::try_from(EACH.len())?)?;
        self.socket.send(&EACH.repeat(datagrams))?;
        setsockopt(&self.socket, UdpGsoSegment, &0)?;
        (0..datagrams).map(|_| self.answer()).collect()
    }

    fn answer(&self) -> Result<String> {
        let mut answer = [0; 2048];
        let length = self.socket.recv(&mut answer).context("no answer")?;
        let answer = answer.get(..length).unwrap_or_default();
        Ok(String::from_utf8_lossy(answer).into_owned())
    }

    /// Who answers.
    pub fn ask(&self) -> Result<String> {
        match self.send("?")? {
            Reply::By(name) => Ok(name),
            other => bail!("no answer: {other:?}"),
        }
    }

    /// Fails unless `generation` answers.
    pub fn expect(&self, generation: &str) -> Result<()> {
        let answer = self.ask()?;
        ensure!(
            answer == generation,
            "answered by {answer}, not by {generation}"
        );
        Ok(())
    }
}
