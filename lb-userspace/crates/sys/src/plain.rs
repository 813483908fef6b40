//! Whether a connection sends what its server writes, and nothing else.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _},
};

use rustix::net::{ipproto, sockopt::socket_protocol};

/// Whether what the kernel sends on `socket` is what its process writes, from memory of the kernel's own: no protocol
/// above TCP has been put in between (kernel TLS), it is no part of a bundle (MPTCP), and it may not send from the
/// process's memory (`MSG_ZEROCOPY`). False in doubt.
pub fn sends_as_written(socket: impl AsFd) -> bool {
    let is_tcp = matches!(socket_protocol(&socket), Ok(Some(ipproto::TCP)));
    let is_bare = || has_nothing_above(&socket).unwrap_or_default();
    let copies = || may_send_in_place(&socket).is_ok_and(|may| !may);
    is_tcp && is_bare() && copies()
}

/// Whether there is no protocol above TCP (`TCP_ULP`).
fn has_nothing_above(socket: &impl AsFd) -> io::Result<bool> {
    // TCP_ULP_NAME_MAX. Without a protocol nothing is said.
    let mut name = [0; 16];
    option(socket, libc::IPPROTO_TCP, libc::TCP_ULP, &mut name)?;
    Ok(name == [0; 16])
}

/// Whether the server has asked for `MSG_ZEROCOPY`.
fn may_send_in_place(socket: &impl AsFd) -> io::Result<bool> {
    let mut value = [0; size_of::<libc::c_int>()];
    option(socket, libc::SOL_SOCKET, libc::SO_ZEROCOPY, &mut value)?;
    Ok(libc::c_int::from_ne_bytes(value) != 0)
}

#[expect(unsafe_code, reason = "no crate here reads these options")]
pub(super) fn option<const N: usize>(
    socket: &impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
    value: &mut [u8; N],
) -> io::Result<()> {
    let mut length = libc::socklen_t::try_from(N).map_err(io::Error::other)?;
    // SAFETY: the buffer is as long as said, and both live until the call returns.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            value.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use rustix::net::{AddressFamily, SocketType, socket};

    use super::*;

    fn connection() -> (TcpListener, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener, client)
    }

    #[test]
    fn only_a_plain_connection_sends_as_written() {
        let (_listener, client) = connection();
        assert!(sends_as_written(&client));
        assert!(!sends_as_written(UdpSocket::bind("127.0.0.1:0").unwrap()));
        // Where the kernel has these.
        let bundle = socket(
            AddressFamily::INET,
            SocketType::STREAM,
            Some(ipproto::MPTCP),
        );
        assert!(!bundle.is_ok_and(sends_as_written));
        if set(&client, libc::IPPROTO_TCP, libc::TCP_ULP, b"tls") {
            assert!(!sends_as_written(&client));
        }
    }

    #[test]
    fn a_connection_that_may_send_in_place_does_not() {
        let (_listener, client) = connection();
        let one = libc::c_int::to_ne_bytes(1);
        assert!(set(&client, libc::SOL_SOCKET, libc::SO_ZEROCOPY, &one));
        assert!(!sends_as_written(&client));
    }

    #[expect(unsafe_code, reason = "no crate here sets these options")]
    fn set(socket: &TcpStream, level: libc::c_int, name: libc::c_int, value: &[u8]) -> bool {
        let length = libc::socklen_t::try_from(value.len()).unwrap();
        // SAFETY: the value is as long as said, and lives until the call returns.
        let set = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                level,
                name,
                value.as_ptr().cast(),
                length,
            )
        };
        set == 0
    }
}
