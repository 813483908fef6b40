//! Listening sockets that can share a port with a server's.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
};

use nix::{
    sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, getsockopt, listen,
        setsockopt, socket, sockopt,
    },
    unistd::{Gid, Uid, fchown},
};
use rustix::net::sockopt::socket_cookie;
use serde::{Deserialize, Serialize};

/// What decides which reuseport group a listening socket is in, besides its namespace: two sockets share a port only if
/// all of this is equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GroupKey {
    /// The address and port.
    pub address: SocketAddr,
    /// Whether the socket is IPv6 only (`IPV6_V6ONLY`); false for IPv4.
    pub v6only: bool,
    /// The user id that owns the socket.
    pub uid: u32,
}

/// Opens a listening socket in the group `group_key` describes.
///
/// # Errors
///
/// EADDRINUSE: somebody else has the port, without `SO_REUSEPORT` or as another user.
pub fn open(group_key: &GroupKey) -> io::Result<OwnedFd> {
    let family = if group_key.address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    setsockopt(&fd, sockopt::ReusePort, &true)?;
    if group_key.address.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &group_key.v6only)?;
    }
    // The kernel takes the group's owner from the socket at bind time; chown before it.
    fchown(&fd, Some(Uid::from_raw(group_key.uid)), None::<Gid>)?;
    let address = SockaddrStorage::from(group_key.address);
    bind(std::os::fd::AsRawFd::as_raw_fd(&fd), &address)?;
    deepen(&fd)?;
    Ok(fd)
}

/// Gives a listener the longest queue the kernel grants (`net.core.somaxconn`). Connections that move to it do not
/// mind its backlog, but until they are accepted, new ones would be dropped and retried only
/// after a second.
pub fn deepen(listener: impl AsFd) -> io::Result<()> {
    Ok(listen(&listener, Backlog::MAXALLOWABLE)?)
}

/// Whether others may listen beside it: `SO_REUSEPORT`. Set after the bind it has no effect, and
/// is shown all the same.
pub fn shares_port(listener: impl AsFd) -> io::Result<bool> {
    Ok(getsockopt(&listener, sockopt::ReusePort)?)
}

/// The kernel's name for a socket: unique while the host runs.
pub fn cookie(socket: impl AsFd) -> io::Result<u64> {
    Ok(socket_cookie(socket)?)
}

/// Shuts a socket down for everybody who has it. A listener stops listening; who waits in its
/// queue moves to another socket of the group.
pub fn shut_down(socket: impl AsFd, how: std::net::Shutdown) -> io::Result<()> {
    let how = match how {
        std::net::Shutdown::Read => rustix::net::Shutdown::Read,
        std::net::Shutdown::Write => rustix::net::Shutdown::Write,
        std::net::Shutdown::Both => rustix::net::Shutdown::Both,
    };
    Ok(rustix::net::shutdown(socket, how)?)
}
