//! Connections: the kernel's list of them, and ending one.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::{
    SockDiagDestroy, SockDiagMessage,
    constants::{
        AF_INET, AF_INET6, IPPROTO_TCP, TCP_CLOSE_WAIT, TCP_CLOSING, TCP_ESTABLISHED,
        TCP_FIN_WAIT1, TCP_FIN_WAIT2, TCP_LAST_ACK, TCP_SYN_RECV,
    },
    inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags, nlas::Nla},
};

use super::{
    netns::Netns,
    sock_diag::{self, DumpError},
    tcp_info::TcpInfo,
};

/// Where a connection is between open and closed, seen from this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Both sides may send.
    Established,
    /// The other side has said that it sends no more.
    CloseWait,
    /// This side has said so (`FIN_WAIT1`, `FIN_WAIT2`).
    FinWait,
    /// Both have (`CLOSING`, `LAST_ACK`).
    Closing,
}

impl State {
    const fn from_kernel(state: u8) -> Option<Self> {
        match state {
            TCP_ESTABLISHED => Some(Self::Established),
            TCP_CLOSE_WAIT => Some(Self::CloseWait),
            TCP_FIN_WAIT1 | TCP_FIN_WAIT2 => Some(Self::FinWait),
            TCP_CLOSING | TCP_LAST_ACK => Some(Self::Closing),
            _ => None,
        }
    }
}

/// A TCP connection that is not over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// This side.
    pub local: SocketAddr,
    /// The other side.
    pub peer: SocketAddr,
    /// The kernel's name for it; unique while the host runs.
    pub cookie: u64,
    /// Its inode, as /proc/PID/fd shows it; 0 when no process has accepted it, or all have closed
    /// it.
    pub inode: u64,
    /// Where it is.
    pub state: State,
    /// Bytes that came and have not been read.
    pub receive_queue: u32,
    /// Bytes that were written and have not been acknowledged.
    pub send_queue: u32,
    /// The cgroup (v2) of the listener it came through; kernel 5.7+.
    pub cgroup: Option<u64>,
    id: SocketId,
    family: u8,
}

/// What the kernel has of a connection on this side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Between {
    /// Nothing, or nothing any more.
    Nothing,
    /// A handshake that is not over for this side. For the other one it may be: a listener with
    /// `TCP_DEFER_ACCEPT` waits for the first data.
    Handshake,
    /// A connection.
    Open(Connection),
}

/// The connections of the namespace whose local port is `port`, both families.
///
/// # Errors
///
/// When the kernel has no `sock_diag` or refuses it.
pub fn at_port(netns: &Netns, port: u16) -> Result<Vec<Connection>, DumpError> {
    let mut found = Vec::new();
    each_at_port(netns, port, &ExtensionFlags::empty(), |connection, _| {
        found.push(connection);
    })?;
    Ok(found)
}

/// The same, each with what the kernel knows of it; `None` where it does not say.
///
/// # Errors
///
/// As [`at_port`].
pub fn detailed_at_port(
    netns: &Netns,
    port: u16,
) -> Result<Vec<(Connection, Option<TcpInfo>)>, DumpError> {
    let mut found = Vec::new();
    each_at_port(netns, port, &ExtensionFlags::INFO, |connection, info| {
        found.push((connection, info));
    })?;
    Ok(found)
}

/// The connection from `peer` to `local`, asked for by itself: unlike a list, that takes the kernel
/// the same time however many sockets there are.
///
/// # Errors
///
/// When the kernel has no `sock_diag` or refuses it.
pub fn between(netns: &Netns, local: SocketAddr, peer: SocketAddr) -> Result<Between, DumpError> {
    let family = if local.is_ipv4() { AF_INET } else { AF_INET6 };
    let mut wanted = request(family, local.port(), ExtensionFlags::empty());
    wanted.socket_id = SocketId {
        source_address: local.ip(),
        source_port: local.port(),
        destination_address: peer.ip(),
        destination_port: peer.port(),
        // INET_DIAG_NOCOOKIE: whichever it is.
        cookie: [u8::MAX; 8],
        ..wanted.socket_id
    };
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let mut message = NetlinkMessage::new(
        header,
        NetlinkPayload::from(SockDiagMessage::InetRequest(wanted)),
    );
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    let socket = sock_diag::open(netns)?;
    socket.send(&bytes, 0)?;
    let mut answer = Vec::with_capacity(4096);
    socket.recv(&mut answer, 0)?;
    let answer =
        NetlinkMessage::<SockDiagMessage>::deserialize(&answer).map_err(io::Error::other)?;
    match answer.payload {
        // A listener is what the kernel finds when there is no connection: it has another state.
        NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(found))
            if found.header.state == TCP_SYN_RECV =>
        {
            Ok(Between::Handshake)
        }
        NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(found)) => {
            Ok(parse(*found).map_or(Between::Nothing, Between::Open))
        }
        NetlinkPayload::Error(error)
            if sock_diag::refusal(&error).kind() == io::ErrorKind::NotFound =>
        {
            Ok(Between::Nothing)
        }
        NetlinkPayload::Error(error) => Err(sock_diag::refusal(&error).into()),
        _ => Ok(Between::Nothing),
    }
}

/// The connections of the namespace that came through a transparent listener, whatever their port.
///
/// # Errors
///
/// As [`at_port`].
pub fn transparent(netns: &Netns) -> Result<Vec<(Connection, Option<TcpInfo>)>, DumpError> {
    let mut found = Vec::new();
    for family in [AF_INET, AF_INET6] {
        let wanted = request(family, 0, ExtensionFlags::INFO);
        sock_diag::dump(netns, wanted, |response| {
            if !sock_diag::is_transparent(&response) {
                return;
            }
            let info = info_of(&response);
            found.extend(parse(response).map(|connection| (connection, info)));
        })?;
    }
    Ok(found)
}

fn info_of(response: &InetResponse) -> Option<TcpInfo> {
    response.nlas.iter().find_map(|attribute| match attribute {
        Nla::TcpInfo(bytes) => TcpInfo::parse(bytes),
        _ => None,
    })
}

fn each_at_port(
    netns: &Netns,
    port: u16,
    extensions: &ExtensionFlags,
    mut each: impl FnMut(Connection, Option<TcpInfo>),
) -> Result<(), DumpError> {
    for family in [AF_INET, AF_INET6] {
        sock_diag::dump(
            netns,
            request(family, port, extensions.clone()),
            |response| {
                let info = info_of(&response);
                // The kernel passes over other ports, but for port 0.
                if let Some(connection) = parse(response).filter(|found| found.local.port() == port)
                {
                    each(connection, info);
                }
            },
        )?;
    }
    Ok(())
}

/// Ends a connection at once: both sides see it reset (`SOCK_DESTROY`).
///
/// # Errors
///
/// ENOENT: it is over. EOPNOTSUPP: the kernel was built without `CONFIG_INET_DIAG_DESTROY`.
pub fn destroy(netns: &Netns, connection: &Connection) -> io::Result<()> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_ACK;
    let request = SockDiagMessage::InetRequest(InetRequest {
        family: connection.family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::all(),
        socket_id: connection.id.clone(),
    });
    let mut message =
        NetlinkMessage::new(header, NetlinkPayload::from(SockDiagDestroy::new(request)));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    let socket = sock_diag::open(netns)?;
    socket.send(&bytes, 0)?;
    let mut answer = Vec::with_capacity(1024);
    socket.recv(&mut answer, 0)?;
    let answer =
        NetlinkMessage::<SockDiagMessage>::deserialize(&answer).map_err(io::Error::other)?;
    match answer.payload {
        NetlinkPayload::Error(error) if error.code.is_some() => Err(sock_diag::refusal(&error)),
        _ => Ok(()),
    }
}

fn request(family: u8, port: u16, extensions: ExtensionFlags) -> InetRequest {
    let mut socket_id = SocketId::new_v4();
    socket_id.source_port = port;
    InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions,
        states: StateFlags::ESTABLISHED
            | StateFlags::CLOSE_WAIT
            | StateFlags::FIN_WAIT1
            | StateFlags::FIN_WAIT2
            | StateFlags::CLOSING
            | StateFlags::LAST_ACK,
        socket_id,
    }
}

fn parse(response: InetResponse) -> Option<Connection> {
    let cgroup = sock_diag::cgroup_of(&response);
    let header = response.header;
    let id = header.socket_id;
    let family = header.family;
    let address = |ip: IpAddr, port| sock_diag::address(family, ip, port);
    Some(Connection {
        local: address(id.source_address, id.source_port)?,
        peer: address(id.destination_address, id.destination_port)?,
        cookie: u64::from_ne_bytes(id.cookie),
        inode: u64::from(header.inode),
        state: State::from_kernel(header.state)?,
        receive_queue: header.recv_queue,
        send_queue: header.send_queue,
        cgroup,
        id: whole(&id, family),
        family,
    })
}

/// The crate reads an IPv4-mapped address as IPv4, and would write it as such.
fn whole(id: &SocketId, family: u8) -> SocketId {
    let widen = |ip: IpAddr| match ip {
        IpAddr::V4(v4) if family == AF_INET6 && v4.is_unspecified() => {
            IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED)
        }
        IpAddr::V4(v4) if family == AF_INET6 => IpAddr::V6(v4.to_ipv6_mapped()),
        ip => ip,
    };
    SocketId {
        source_address: widen(id.source_address),
        destination_address: widen(id.destination_address),
        ..id.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    fn pair(listen: &str, connect: &str) -> (TcpListener, TcpStream, TcpStream) {
        let listener = TcpListener::bind(listen).unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect((connect, port)).unwrap();
        let (server, _) = listener.accept().unwrap();
        (listener, client, server)
    }

    #[expect(unsafe_code, reason = "no crate here sets TCP_DEFER_ACCEPT")]
    fn defer(listener: &TcpListener) {
        let seconds: libc::c_int = 5;
        // SAFETY: the kernel reads the four bytes of `seconds`, which outlives the call.
        let result = unsafe {
            libc::setsockopt(
                std::os::fd::AsRawFd::as_raw_fd(listener),
                libc::IPPROTO_TCP,
                libc::TCP_DEFER_ACCEPT,
                std::ptr::from_ref(&seconds).cast(),
                4,
            )
        };
        assert_eq!(result, 0);
    }

    fn only(listener: &TcpListener) -> Connection {
        let mut found = at_port(&Netns::own(), listener.local_addr().unwrap().port()).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    #[test]
    fn lists_a_connection_of_its_own() {
        for (listen, connect) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1")] {
            let (listener, mut client, server) = pair(listen, connect);
            client.write_all(b"five!").unwrap();
            let found = only(&listener);
            assert_eq!(
                found.cookie,
                super::super::listener::cookie(&server).unwrap()
            );
            assert_eq!(found.peer, client.local_addr().unwrap());
            assert_eq!((found.state, found.receive_queue), (State::Established, 5));
            assert_ne!(found.inode, 0);
        }
    }

    #[test]
    fn finds_one_by_its_ends() {
        let netns = Netns::own();
        for (listen, connect) in [
            ("127.0.0.1:0", "127.0.0.1"),
            ("[::1]:0", "::1"),
            ("[::]:0", "127.0.0.1"),
        ] {
            let (listener, client, server) = pair(listen, connect);
            let (local, peer) = (client.peer_addr().unwrap(), client.local_addr().unwrap());
            let Between::Open(found) = between(&netns, local, peer).unwrap() else {
                panic!("nothing between {local} and {peer}");
            };
            let cookie = super::super::listener::cookie(&server).unwrap();
            assert_eq!((found.cookie, found.state), (cookie, State::Established));
            assert_ne!(found.inode, 0);
            let nobody = SocketAddr::new(peer.ip(), 1);
            assert_eq!(between(&netns, local, nobody).unwrap(), Between::Nothing);
            drop(listener);
        }
    }

    #[test]
    fn a_deferred_connection_is_a_handshake_until_it_has_data() {
        let netns = Netns::own();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        defer(&listener);
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (local, peer) = (client.peer_addr().unwrap(), client.local_addr().unwrap());
        assert_eq!(between(&netns, local, peer).unwrap(), Between::Handshake);
        client.write_all(b"\r\n").unwrap();
        let found = between(&netns, local, peer).unwrap();
        assert!(
            matches!(found, Between::Open(found) if found.inode == 0 && found.receive_queue == 2)
        );
    }

    #[test]
    fn destroys_exactly_one() {
        for (listen, connect) in [("127.0.0.1:0", "127.0.0.1"), ("[::]:0", "127.0.0.1")] {
            let (listener, mut client, server) = pair(listen, connect);
            let found = only(&listener);
            let other = TcpStream::connect(client.peer_addr().unwrap()).unwrap();
            destroy(&Netns::own(), &found).unwrap();
            let error = client.read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            let again = destroy(&Netns::own(), &found).unwrap_err();
            assert_eq!(again.kind(), io::ErrorKind::NotFound);
            assert!(other.take_error().unwrap().is_none());
            drop(server);
        }
    }
}
