//! The listening sockets: made here without `SO_REUSEPORT`, or inherited by `LISTEN_FDS`.

use std::net::{SocketAddr, TcpListener};

use anyhow::{Context as _, Result, ensure};
use listenfd::ListenFd;
use socket2::{Domain, Socket, Type};

use crate::arguments::Arguments;

/// All listeners, ready for `accept()`.
pub(crate) fn open(arguments: &Arguments) -> Result<Vec<TcpListener>> {
    let listeners = if arguments.inherit {
        inherited()?
    } else {
        arguments
            .listen
            .iter()
            .map(|address| bind(arguments, *address))
            .collect::<Result<_>>()?
    };
    for listener in &listeners {
        listener.set_nonblocking(true)?;
    }
    Ok(listeners)
}

fn bind(arguments: &Arguments, address: SocketAddr) -> Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() && (arguments.dual_stack || arguments.v6only) {
        socket.set_only_v6(arguments.v6only)?;
    }
    socket
        .bind(&address.into())
        .with_context(|| format!("bind {address}"))?;
    socket
        .listen(arguments.backlog)
        .with_context(|| format!("listen on {address}"))?;
    Ok(socket.into())
}

fn inherited() -> Result<Vec<TcpListener>> {
    let mut given = ListenFd::from_env();
    let listeners = (0..given.len()).filter_map(|index| given.take_tcp_listener(index).transpose());
    let listeners = listeners.collect::<Result<Vec<_>, _>>()?;
    ensure!(
        !listeners.is_empty(),
        "no sockets in LISTEN_FDS for this process"
    );
    Ok(listeners)
}
