//! The kernel's list of sockets (`NETLINK_SOCK_DIAG`) of the network namespace the agent is in.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::{
    SockDiagMessage,
    constants::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP},
    inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags, nlas::Nla},
};
use netlink_sys::{Socket as Netlink, SocketAddr as NetlinkAddr, protocols::NETLINK_SOCK_DIAG};
use thiserror::Error;

/// The kernel did not list the sockets.
#[derive(Debug, Error)]
#[error("cannot list sockets (NETLINK_SOCK_DIAG): {0}")]
pub struct DumpError(#[source] io::Error);

/// A protocol whose sockets can be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP; the part of an MPTCP socket that listens is one too.
    Tcp,
    /// UDP.
    Udp,
}

/// A socket that waits for clients: listening TCP, or bound and unconnected UDP.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// Its protocol.
    pub protocol: Protocol,
    /// Where it waits.
    pub address: SocketAddr,
    /// `IPV6_V6ONLY`; false for IPv4.
    pub v6only: bool,
    /// Its owner.
    pub uid: u32,
    /// Its inode, as /proc/PID/fd shows it.
    pub inode: u64,
    /// The kernel's name for it.
    pub cookie: u64,
    /// The cgroup (v2) that made it; kernel 5.7+.
    pub cgroup: Option<u64>,
    /// TCP: connections waiting to be accepted.
    pub queue: u32,
    /// TCP: how many may wait.
    pub backlog: u32,
    /// Whether it is the inner socket of an MPTCP one.
    pub mptcp: bool,
}

/// `INET_DIAG_ULP_INFO` and `INET_DIAG_CGROUP_ID` (`uapi/linux/inet_diag.h`).
const ULP_INFO: u16 = 17;
const CGROUP_ID: u16 = 21;

/// All sockets of the namespace that wait for clients, both families.
///
/// # Errors
///
/// When the kernel has no `sock_diag` or refuses it.
pub fn waiting(protocol: Protocol) -> Result<Vec<Waiting>, DumpError> {
    let mut found = Vec::new();
    let (number, states) = match protocol {
        Protocol::Tcp => (IPPROTO_TCP, StateFlags::LISTEN),
        // An unconnected UDP socket has state CLOSE.
        Protocol::Udp => (IPPROTO_UDP, StateFlags::CLOSE),
    };
    for family in [AF_INET, AF_INET6] {
        dump(&request(number, family, states.clone()), |response| {
            found.extend(parse(protocol, &response));
        })
        .map_err(DumpError)?;
    }
    Ok(found)
}

/// An open TCP connection, one that waits to be accepted included.
#[derive(Clone, Debug)]
pub struct Open {
    /// This side's port.
    pub port: u16,
    /// The kernel's name for the socket.
    pub cookie: u64,
    /// The cgroup (v2) of the listener it came through; kernel 5.7+.
    pub cgroup: Option<u64>,
}

/// All open TCP connections of the namespace, both families and both sides of each.
///
/// # Errors
///
/// When the kernel has no `sock_diag` or refuses it.
pub fn open() -> Result<Vec<Open>, DumpError> {
    let states = StateFlags::ESTABLISHED
        | StateFlags::FIN_WAIT1
        | StateFlags::FIN_WAIT2
        | StateFlags::CLOSE_WAIT
        | StateFlags::LAST_ACK
        | StateFlags::CLOSING;
    let mut found = Vec::new();
    for family in [AF_INET, AF_INET6] {
        let request = request(IPPROTO_TCP, family, states.clone());
        dump(&request, |response| {
            found.extend(parse(Protocol::Tcp, &response).map(|socket| Open {
                port: socket.address.port(),
                cookie: socket.cookie,
                cgroup: socket.cgroup,
            }));
        })
        .map_err(DumpError)?;
    }
    Ok(found)
}

fn dump(request: &[u8], mut each: impl FnMut(InetResponse)) -> io::Result<()> {
    let mut socket = Netlink::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&NetlinkAddr::new(0, 0))?;
    socket.send(request, 0)?;
    let mut buffer = Vec::with_capacity(64 * 1024);
    loop {
        buffer.clear();
        socket.recv(&mut buffer, 0)?;
        let mut rest = buffer.as_slice();
        while !rest.is_empty() {
            let message =
                NetlinkMessage::<SockDiagMessage>::deserialize(rest).map_err(io::Error::other)?;
            let length = message.header.length as usize;
            match message.payload {
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                    each(*response);
                }
                NetlinkPayload::Done(_) => return Ok(()),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                _ => {}
            }
            // Messages are aligned to four bytes.
            rest = rest
                .get(length.next_multiple_of(4).max(4)..)
                .unwrap_or_default();
        }
    }
}

fn request(protocol: u8, family: u8, states: StateFlags) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut message = NetlinkMessage::new(
        header,
        NetlinkPayload::from(SockDiagMessage::InetRequest(InetRequest {
            family,
            protocol,
            extensions: ExtensionFlags::empty(),
            states,
            socket_id: SocketId::new_v4(),
        })),
    );
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

fn parse(protocol: Protocol, response: &InetResponse) -> Option<Waiting> {
    let header = &response.header;
    let mut waiting = Waiting {
        protocol,
        address: address(header.family, &header.socket_id)?,
        v6only: false,
        uid: header.uid,
        inode: u64::from(header.inode),
        cookie: u64::from_ne_bytes(header.socket_id.cookie),
        cgroup: None,
        queue: header.recv_queue,
        backlog: header.send_queue,
        mptcp: false,
    };
    for attribute in &response.nlas {
        match attribute {
            Nla::SkV6Only(v6only) => waiting.v6only = *v6only,
            Nla::Other(other) => {
                use netlink_packet_core::Nla as _;
                let mut value = vec![0; other.value_len()];
                other.emit_value(&mut value);
                match other.kind() {
                    CGROUP_ID => waiting.cgroup = value.try_into().ok().map(u64::from_ne_bytes),
                    ULP_INFO => waiting.mptcp = contains(&value, b"mptcp"),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    Some(waiting)
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

fn address(family: u8, id: &SocketId) -> Option<SocketAddr> {
    let ip = match (family, id.source_address) {
        (AF_INET, IpAddr::V4(v4)) => IpAddr::V4(v4),
        (AF_INET6, IpAddr::V6(v6)) => IpAddr::V6(v6),
        // The crate reads "::" and mapped addresses as it likes; the family is what counts.
        (AF_INET6, IpAddr::V4(v4)) if v4.is_unspecified() => {
            IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED)
        }
        (AF_INET6, IpAddr::V4(v4)) => IpAddr::V6(v4.to_ipv6_mapped()),
        _ => return None,
    };
    Some(SocketAddr::new(ip, id.source_port))
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, UdpSocket},
        os::unix::fs::MetadataExt as _,
    };

    use super::*;

    #[test]
    fn finds_a_listener_of_its_own_with_its_cookie() {
        for listen in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(listen).unwrap();
            let address = listener.local_addr().unwrap();
            let found = waiting(Protocol::Tcp).unwrap();
            let own = found.iter().find(|w| w.address == address).unwrap();
            assert_eq!(
                own.cookie,
                super::super::listener::cookie(&listener).unwrap()
            );
            assert_eq!(own.queue, 0);
            assert!(own.backlog > 0 && !own.mptcp);
            let inode = std::fs::metadata(format!(
                "/proc/self/fd/{}",
                std::os::fd::AsRawFd::as_raw_fd(&listener)
            ))
            .unwrap()
            .ino();
            assert_eq!(own.inode, inode);
            let client = std::net::TcpStream::connect(address).unwrap();
            let cookie = super::super::listener::cookie(&client).unwrap();
            assert!(open().unwrap().iter().any(|o| o.cookie == cookie));
            let again = waiting(Protocol::Tcp).unwrap();
            assert!(again.iter().any(|w| w.address == address && w.queue == 1));
        }
    }

    #[test]
    fn finds_udp_sockets() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        assert!(
            waiting(Protocol::Udp)
                .unwrap()
                .iter()
                .any(|w| w.address == address)
        );
    }
}
