//! Whether a server can still read a connection whose client is asked to leave by its messages.
//!
//! Some kernels say of every socket in a sockhash that nothing waits to be read (`FIONREAD`): what lies in the
//! queue for sockets that were redirected is counted, and not what came from the client. A server that asks, as
//! nginx does, waits for ever. Versions do not tell which kernels these are, as distributors take over changes and
//! repairs at will; so the kernel is asked, with a connection of one's own.

use std::{
    io::{self, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd, AsRawFd as _},
    time::Duration,
};

use aya::maps::{MapData, MapError, SockHash};
use hotlb_sys::{clock::Deadline, listener, tcp_info::TcpInfo};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{ioctl_fionread, retry_on_intr},
};
use thiserror::Error;

/// As long as the requests that servers read.
const SENT: [u8; 2000] = [b'x'; 2000];
/// Over loopback it takes microseconds.
const LIMIT: Duration = Duration::from_secs(2);

/// Why clients are not asked by messages.
#[derive(Debug, Error)]
pub(super) enum Unfit {
    /// The kernel says something wrong.
    #[error(
        "this kernel tells a server that {said} of {came} bytes wait to be read (FIONREAD) on a connection that is \
         in a sockhash, and a server that asks stops reading"
    )]
    Dishonest { said: u64, came: u64 },
    /// It could not be found out.
    #[error("it is unknown whether servers could read on: {0}")]
    Unknown(#[from] io::Error),
    /// The socket is not taken.
    #[error("it is unknown whether servers could read on: {0}")]
    Refused(#[from] MapError),
}

/// Whether FIONREAD is right for a socket that is in `sockets`, a map that an `sk_msg` program is attached to.
pub(super) fn of(sockets: &mut SockHash<MapData, u64>) -> Result<(), Unfit> {
    let (mut client, server) = pair()?;
    let cookie = listener::cookie(&server)?;
    sockets.insert(cookie, server.as_raw_fd(), 0)?;
    let answer = said_of(&mut client, &server);
    // Both are closed when this returns, which takes it out as well.
    let _taken_out = sockets.remove(&cookie);
    match answer? {
        said if said == SENT.len() as u64 => Ok(()),
        said => Err(Unfit::Dishonest {
            said,
            came: SENT.len() as u64,
        }),
    }
}

/// Sends, waits until all of it has come, and asks.
fn said_of(client: &mut TcpStream, server: &TcpStream) -> io::Result<u64> {
    client.write_all(&SENT)?;
    let deadline = Deadline::after(LIMIT);
    while TcpInfo::of(server)?.bytes_received < SENT.len() as u64 {
        // Returns at once while a part of it is there.
        wait_for(server, deadline, Duration::from_millis(1))?;
    }
    Ok(ioctl_fionread(server)?)
}

/// Waits until there is something to read or to accept, or for `step`.
fn wait_for(socket: &impl AsFd, deadline: Deadline, step: Duration) -> io::Result<()> {
    let left = deadline.left().ok_or(io::ErrorKind::TimedOut)?;
    let wait = Timespec::try_from(left.min(step)).map_err(io::Error::other)?;
    retry_on_intr(|| poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&wait)))?;
    Ok(())
}

/// A connection over loopback.
fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let client = TcpStream::connect_timeout(&listener.local_addr()?, LIMIT)?;
    client.set_write_timeout(Some(LIMIT))?;
    let own = client.local_addr()?;
    // It may have ended in the queue meanwhile, and then nobody comes.
    listener.set_nonblocking(true)?;
    let deadline = Deadline::after(LIMIT);
    loop {
        wait_for(&listener, deadline, LIMIT)?;
        match listener.accept() {
            // The first in the queue may be somebody else's.
            Ok((server, peer)) if peer == own => return Ok((client, server)),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_is_left_alone_is_told_the_truth() {
        let (mut client, server) = pair().unwrap();
        let said = said_of(&mut client, &server).unwrap();
        assert_eq!(said, SENT.len() as u64);
    }
}
