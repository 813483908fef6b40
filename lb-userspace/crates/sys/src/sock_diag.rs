//! The kernel's list of the sockets of a network namespace (`NETLINK_SOCK_DIAG`).

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use netlink_packet_core::{
    ErrorMessage, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    Nla as _,
};
use netlink_packet_sock_diag::{
    SockDiagMessage,
    constants::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP},
    inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags, nlas::Nla},
};
use netlink_sys::{Socket as Netlink, SocketAddr as NetlinkAddr, protocols::NETLINK_SOCK_DIAG};
use thiserror::Error;

use super::{netns::Netns, reader::printable};

/// The kernel did not list the sockets.
#[derive(Debug, Error)]
#[error("cannot list sockets (NETLINK_SOCK_DIAG): {0}")]
pub struct DumpError(#[from] io::Error);

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
    /// TCP: handshakes that were dropped, most of them because the accept queue was full; their
    /// clients try again after a second.
    pub dropped: u32,
    /// Whether it is the inner socket of an MPTCP one.
    pub mptcp: bool,
    /// The device it is bound to (`SO_BINDTODEVICE`; a VRF is one too): the kernel prefers it to
    /// one that is bound to none.
    pub device: Option<String>,
    /// Whether it takes clients of addresses that are not the host's (`IP_TRANSPARENT`).
    pub transparent: bool,
}

/// `INET_DIAG_ULP_INFO`, `INET_DIAG_CGROUP_ID` and `INET_DIAG_SOCKOPT` (`uapi/linux/inet_diag.h`).
const ULP_INFO: u16 = 17;
const CGROUP_ID: u16 = 21;
const OPTIONS: u16 = 22;
/// In the first byte of `struct inet_diag_sockopt`, whose bit fields begin at the lowest bit.
const TRANSPARENT: u8 = 1 << 5;

/// All sockets of the namespace that wait for clients, both families.
///
/// # Errors
///
/// When the kernel has no `sock_diag` or refuses it.
pub fn waiting(netns: &Netns, protocol: Protocol) -> Result<Vec<Waiting>, DumpError> {
    let mut found = Vec::new();
    let mut bound = Vec::new();
    for family in [AF_INET, AF_INET6] {
        dump(netns, request(protocol, family), |response| {
            if response.header.socket_id.interface_id != 0 {
                bound.push((found.len(), response.header.socket_id.interface_id));
            }
            found.extend(parse(protocol, &response));
        })?;
    }
    if !bound.is_empty() {
        let socket = open(netns)?;
        for (index, device) in bound {
            if let (Some(waiting), Ok(name)) = (
                found.get_mut(index),
                rustix::net::netdevice::index_to_name(&socket, device),
            ) {
                let waiting: &mut Waiting = waiting;
                waiting.device = Some(printable(&name));
            }
        }
    }
    Ok(found)
}

/// A connection to the kernel's list of the namespace's sockets.
pub(super) fn open(netns: &Netns) -> io::Result<Netlink> {
    let mut socket = netns.inside(|| Netlink::new(NETLINK_SOCK_DIAG))??;
    socket.bind_auto()?;
    socket.connect(&NetlinkAddr::new(0, 0))?;
    Ok(socket)
}

/// Asks for all sockets of a kind.
pub(super) fn dump(
    netns: &Netns,
    request: InetRequest,
    mut each: impl FnMut(InetResponse),
) -> io::Result<()> {
    let socket = open(netns)?;
    socket.send(&bytes_of(request), 0)?;
    let mut buffer = Vec::with_capacity(64 * 1024);
    loop {
        buffer.clear();
        socket.recv(&mut buffer, 0)?;
        if read(&buffer, &mut each)? {
            return Ok(());
        }
    }
}

/// What the kernel says by its code. The crate's own conversion overflows at the least of all codes.
pub(super) fn refusal(error: &ErrorMessage) -> io::Error {
    io::Error::from_raw_os_error(error.raw_code().saturating_abs())
}

/// What the kernel would say by `datagram` of sockets that wait for clients; nothing that cannot be
/// read.
///
/// # Errors
///
/// When it is no answer of the kernel's, or says that the kernel refuses.
pub fn waiting_in(protocol: Protocol, datagram: &[u8]) -> io::Result<Vec<Waiting>> {
    let mut found = Vec::new();
    read(datagram, &mut |response| {
        found.extend(parse(protocol, &response));
    })?;
    Ok(found)
}

/// Hands on what one datagram has; true when it was the last.
fn read(datagram: &[u8], each: &mut impl FnMut(InetResponse)) -> io::Result<bool> {
    let mut rest = datagram;
    while !rest.is_empty() {
        let message =
            NetlinkMessage::<SockDiagMessage>::deserialize(rest).map_err(io::Error::other)?;
        let length = message.header.length as usize;
        match message.payload {
            NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                each(*response);
            }
            NetlinkPayload::Done(_) => return Ok(true),
            NetlinkPayload::Error(error) => return Err(refusal(&error)),
            _ => {}
        }
        // Messages are aligned to four bytes.
        rest = rest
            .get(length.next_multiple_of(4).max(4)..)
            .unwrap_or_default();
    }
    Ok(false)
}

fn request(protocol: Protocol, family: u8) -> InetRequest {
    let (protocol, states) = match protocol {
        Protocol::Tcp => (IPPROTO_TCP, StateFlags::LISTEN),
        // An unconnected UDP socket has state CLOSE.
        Protocol::Udp => (IPPROTO_UDP, StateFlags::CLOSE),
    };
    InetRequest {
        family,
        protocol,
        extensions: ExtensionFlags::SKMEMINFO,
        states,
        socket_id: SocketId::new_v4(),
    }
}

fn bytes_of(request: InetRequest) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut message = NetlinkMessage::new(
        header,
        NetlinkPayload::from(SockDiagMessage::InetRequest(request)),
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
        address: address(
            header.family,
            header.socket_id.source_address,
            header.socket_id.source_port,
        )?,
        v6only: false,
        uid: header.uid,
        inode: u64::from(header.inode),
        cookie: u64::from_ne_bytes(header.socket_id.cookie),
        cgroup: None,
        queue: header.recv_queue,
        backlog: header.send_queue,
        dropped: 0,
        mptcp: false,
        // Its name is for who can ask the namespace.
        device: match header.socket_id.interface_id {
            0 => None,
            index => Some(format!("number {index}")),
        },
        transparent: is_transparent(response),
    };
    for attribute in &response.nlas {
        match attribute {
            Nla::SkV6Only(v6only) => waiting.v6only = *v6only,
            Nla::MemInfo(memory) => waiting.dropped = memory.drops,
            Nla::Other(other) if other.kind() == ULP_INFO => {
                waiting.mptcp = contains(&value_of(other), b"mptcp");
            }
            _ => {}
        }
    }
    waiting.cgroup = cgroup_of(response);
    Some(waiting)
}

/// The cgroup (v2) that made the socket, or the listener it came from.
pub(super) fn cgroup_of(response: &InetResponse) -> Option<u64> {
    response.nlas.iter().find_map(|attribute| match attribute {
        Nla::Other(other) if other.kind() == CGROUP_ID => {
            value_of(other).try_into().ok().map(u64::from_ne_bytes)
        }
        _ => None,
    })
}

/// Whether the socket, or the listener it came from, takes clients of other addresses; kernel 5.10+.
pub(super) fn is_transparent(response: &InetResponse) -> bool {
    response.nlas.iter().any(|attribute| match attribute {
        Nla::Other(other) if other.kind() == OPTIONS => {
            let options = value_of(other);
            options.first().is_some_and(|bits| bits & TRANSPARENT != 0)
        }
        _ => false,
    })
}

fn value_of(attribute: &impl netlink_packet_core::Nla) -> Vec<u8> {
    let mut value = vec![0; attribute.value_len()];
    attribute.emit_value(&mut value);
    value
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

/// An address as the family says.
pub(super) fn address(family: u8, address: IpAddr, port: u16) -> Option<SocketAddr> {
    let ip = match (family, address) {
        (AF_INET, IpAddr::V4(v4)) => IpAddr::V4(v4),
        (AF_INET6, IpAddr::V6(v6)) => IpAddr::V6(v6),
        // The crate reads "::" and mapped addresses as it likes; the family is what counts.
        (AF_INET6, IpAddr::V4(v4)) if v4.is_unspecified() => {
            IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED)
        }
        (AF_INET6, IpAddr::V4(v4)) => IpAddr::V6(v4.to_ipv6_mapped()),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
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
            let found = waiting(&Netns::own(), Protocol::Tcp).unwrap();
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
            let _client = std::net::TcpStream::connect(address).unwrap();
            let again = waiting(&Netns::own(), Protocol::Tcp).unwrap();
            assert!(again.iter().any(|w| w.address == address && w.queue == 1));
        }
    }

    #[test]
    fn finds_udp_sockets() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        assert!(
            waiting(&Netns::own(), Protocol::Udp)
                .unwrap()
                .iter()
                .any(|w| w.address == address)
        );
    }
}
