//! Waking a server that waits for bytes it has.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _},
};

/// Has the kernel tell whoever waits for `socket` once more that there is something to read, if there is. Nothing
/// else changes: `SO_RCVLOWAT` gets the value it has, and the kernel looks at the queue then.
///
/// # Errors
///
/// When it is no socket.
pub fn reader(socket: impl AsFd) -> io::Result<()> {
    let least = least(&socket)?;
    set_least(&socket, least)
}

#[expect(unsafe_code, reason = "no crate here has SO_RCVLOWAT")]
fn least(socket: &impl AsFd) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut length = size()?;
    // SAFETY: the value is as long as said, and both live until the call returns.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVLOWAT,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(value)
}

#[expect(unsafe_code, reason = "no crate here has SO_RCVLOWAT")]
fn set_least(socket: &impl AsFd, value: libc::c_int) -> io::Result<()> {
    let length = size()?;
    // SAFETY: the value is as long as said, and lives until the call returns.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVLOWAT,
            (&raw const value).cast(),
            length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn size() -> io::Result<libc::socklen_t> {
    libc::socklen_t::try_from(size_of::<libc::c_int>()).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        net::{TcpListener, TcpStream},
        os::fd::AsFd as _,
    };

    use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

    use super::*;

    #[test]
    fn a_reader_by_edges_hears_once_more_of_what_it_left() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        let edges = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        epoll.add(&server, EpollEvent::new(edges, 7)).unwrap();
        let heard = |wait: u16| {
            let mut events = [EpollEvent::empty()];
            epoll.wait(&mut events, wait).unwrap()
        };
        reader(&server).unwrap();
        assert_eq!(heard(0), 0, "there is nothing to read");
        client.write_all(b"request").unwrap();
        assert_eq!((heard(5000), heard(0)), (1, 0));
        let duplicate = server.as_fd().try_clone_to_owned().unwrap();
        reader(&duplicate).unwrap();
        assert_eq!((heard(5000), heard(0)), (1, 0));
    }
}
