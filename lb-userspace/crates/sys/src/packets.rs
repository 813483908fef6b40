//! Packets with descriptors between two processes: a pair of `SOCK_SEQPACKET` sockets.
//!
//! A packet arrives whole or not at all, with the descriptors that were sent with it; the end of
//! the other process shows as the end of the stream.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use nix::unistd::dup2_stdin;
use rustix::{
    cmsg_space,
    io::{Errno, fcntl_dupfd_cloexec},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
        sockopt::socket_type,
    },
};

/// Most descriptors in one packet.
pub const DESCRIPTORS: usize = 8;
/// Most bytes in one packet.
const BYTES: usize = 64 * 1024;

/// What came.
#[derive(Debug)]
pub enum Arrived {
    /// A packet.
    Packet(Vec<u8>, Vec<OwnedFd>),
    /// The other side is gone.
    End,
}

/// Two connected sockets. They are closed on exec.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// The socket that was given to this process as its stdin, which reads from nowhere afterwards.
///
/// # Errors
///
/// When stdin is no socket of this kind.
pub fn take_stdin() -> io::Result<OwnedFd> {
    let stdin = io::stdin();
    let kind = socket_type(stdin.as_fd()).map_err(|_none| not_a_pair())?;
    if kind != SocketType::SEQPACKET {
        return Err(not_a_pair());
    }
    let socket = fcntl_dupfd_cloexec(stdin.as_fd(), FIRST_FREE)?;
    let null = std::fs::File::open("/dev/null")?;
    dup2_stdin(&null)?;
    Ok(socket)
}

/// Above the standard streams.
const FIRST_FREE: i32 = 3;

fn not_a_pair() -> io::Error {
    io::Error::other("stdin is not a socket of another agent")
}

/// Sends a packet with copies of `descriptors`; never waits.
///
/// # Errors
///
/// EPIPE when the other side is gone, EAGAIN when it does not read.
pub fn send(socket: impl AsFd, packet: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many descriptors for one packet"));
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    match sendmsg(socket, &[IoSlice::new(packet)], &mut control, flags) {
        // The other side ended with something from us unread: the kernel says that once, and then EPIPE.
        Err(Errno::CONNRESET) => Err(Errno::PIPE.into()),
        sent => Ok(sent.map(drop)?),
    }
}

/// What has arrived; never waits.
///
/// # Errors
///
/// EAGAIN when nothing has.
pub fn receive(socket: impl AsFd) -> io::Result<Arrived> {
    match receive_once(&socket) {
        // The other side ended with something from us unread. The kernel says that once, before what it sent last.
        Err(Errno::CONNRESET) => Ok(receive_once(&socket)?),
        received => Ok(received?),
    }
}

fn receive_once(socket: impl AsFd) -> Result<Arrived, Errno> {
    let mut bytes = vec![0; BYTES];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut control,
        flags,
    )?;
    let length = received.bytes;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(arrived) = message {
            descriptors.extend(arrived);
        }
    }
    if length == 0 {
        return Ok(Arrived::End);
    }
    bytes.truncate(length);
    Ok(Arrived::Packet(bytes, descriptors))
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write as _};

    use super::*;

    #[test]
    fn descriptors_travel_and_the_end_shows() {
        let (here, there) = pair().unwrap();
        let empty = receive(&there).unwrap_err();
        assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
        let file = tempfile::NamedTempFile::new().unwrap();
        send(&here, b"take this", &[file.as_file().as_fd()]).unwrap();
        let Arrived::Packet(bytes, mut descriptors) = receive(&there).unwrap() else {
            panic!("no packet");
        };
        assert_eq!(bytes, b"take this");
        File::from(descriptors.remove(0)).write_all(b"x").unwrap();
        assert_eq!(std::fs::read(file.path()).unwrap(), b"x");
        send(&there, b"unread", &[]).unwrap();
        drop(here);
        assert!(matches!(receive(&there).unwrap(), Arrived::End));
        let gone = send(&there, b"anybody?", &[]).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn who_ends_without_reading_is_heard_to_the_end() {
        let (here, there) = pair().unwrap();
        send(&here, b"unread", &[]).unwrap();
        send(&there, b"last words", &[]).unwrap();
        drop(there);
        let Arrived::Packet(bytes, _) = receive(&here).unwrap() else {
            panic!("no packet");
        };
        assert_eq!(bytes, b"last words");
        assert!(matches!(receive(&here).unwrap(), Arrived::End));
        let (here, there) = pair().unwrap();
        send(&here, b"unread", &[]).unwrap();
        drop(there);
        let gone = send(&here, b"anybody?", &[]).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::BrokenPipe);
    }
}
