//! Sockets at a service's ports that are in none of its groups, or in one of them without a slot. Pure.

use std::net::{IpAddr, SocketAddr};

use crate::sys::{listener::GroupKey, sock_diag::Waiting};

/// How a socket is a stray one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stray {
    /// It is bound to a device: it gets clients of that device, some or all of them, by kernel and by who was first.
    Device,
    /// It is at a more specific address, or of IPv4 where a socket of IPv6 takes both: it gets the clients of that.
    Narrower,
    /// It is at the same address, and another kind of IPv6 socket: a group of its own, which gets all clients or none.
    OtherKind,
    /// It is in the group. It has no slot, so it gets no clients while hotlb's program decides.
    Slotless,
}

/// The declared address whose clients the socket gets, or would get, if it is none of the service's own.
pub fn stray(groups: &[GroupKey], socket: &Waiting) -> Option<(SocketAddr, Stray)> {
    let at = |group: &&GroupKey| group.address == socket.address;
    if socket.device.is_none()
        && let Some(group) = groups.iter().find(at)
    {
        let is_member = socket.v6only == group.v6only;
        let how = if is_member {
            Stray::Slotless
        } else {
            Stray::OtherKind
        };
        return Some((group.address, how));
    }
    let group = groups.iter().find(|group| is_preferred(socket, group))?;
    let how = match socket.device {
        Some(_) => Stray::Device,
        None => Stray::Narrower,
    };
    Some((group.address, how))
}

/// Whether the kernel has this socket take clients of the group's address, or may.
fn is_preferred(socket: &Waiting, group: &GroupKey) -> bool {
    if socket.address.port() != group.address.port() {
        return false;
    }
    let has_device = socket.device.is_some();
    let (own, theirs) = (group.address.ip(), socket.address.ip());
    let is_any = (own.is_unspecified(), theirs.is_unspecified());
    // A dual-stack socket takes clients of both families, and is the last to be asked for those of IPv4.
    let takes_v4 = matches!(own, IpAddr::V6(_)) && !group.v6only;
    let is_stacked = matches!(theirs, IpAddr::V6(_)) && !socket.v6only;
    match is_any {
        (true, false) => own.is_ipv4() == theirs.is_ipv4() || takes_v4 && theirs.is_ipv4(),
        (true, true) if own.is_ipv4() == theirs.is_ipv4() => has_device,
        (true, true) if theirs.is_ipv4() => takes_v4,
        (true, true) => has_device && is_stacked,
        (false, false) => own == theirs && has_device,
        // The more specific address wins, whatever device the other one has.
        (false, true) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::sock_diag::Protocol;

    fn group(address: &str, v6only: bool) -> GroupKey {
        GroupKey {
            address: address.parse().unwrap(),
            v6only,
            uid: 0,
        }
    }

    fn found(groups: &[GroupKey], address: &str, device: Option<&str>) -> Option<Stray> {
        let socket = Waiting {
            protocol: Protocol::Tcp,
            address: address.parse().unwrap(),
            v6only: false,
            uid: 33,
            inode: 1,
            cookie: 1,
            cgroup: Some(1),
            queue: 0,
            backlog: 1,
            dropped: 0,
            mptcp: false,
            device: device.map(str::to_owned),
            transparent: false,
        };
        stray(groups, &socket).map(|(_, how)| how)
    }

    /// As Linux 6.18 chose between two sockets, each pair tried in both orders; earlier kernels prefer a device.
    #[test]
    fn whom_the_kernel_prefers() {
        use Stray::{Device, Narrower, OtherKind, Slotless};
        let v4 = [group("0.0.0.0:80", false)];
        assert_eq!(found(&v4, "0.0.0.0:80", None), Some(Slotless));
        assert_eq!(found(&v4, "0.0.0.0:80", Some("lo")), Some(Device));
        assert_eq!(found(&v4, "127.0.0.1:80", None), Some(Narrower));
        assert_eq!(found(&v4, "127.0.0.1:80", Some("lo")), Some(Device));
        assert_eq!(found(&v4, "[::]:80", None), None);
        assert_eq!(found(&v4, "[::]:80", Some("lo")), Some(Device));
        assert_eq!(found(&v4, "[::1]:80", None), None);
        assert_eq!(found(&v4, "127.0.0.1:81", Some("lo")), None);
        let one = [group("127.0.0.1:80", false)];
        assert_eq!(found(&one, "0.0.0.0:80", Some("lo")), None);
        assert_eq!(found(&one, "127.0.0.1:80", Some("lo")), Some(Device));
        assert_eq!(found(&one, "127.0.0.2:80", None), None);
        let dual = [group("[::]:80", false)];
        assert_eq!(found(&dual, "0.0.0.0:80", None), Some(Narrower));
        assert_eq!(found(&dual, "127.0.0.1:80", None), Some(Narrower));
        assert_eq!(found(&dual, "[::1]:80", None), Some(Narrower));
        let v6 = [group("[::]:80", true)];
        assert_eq!(found(&v6, "0.0.0.0:80", None), None);
        assert_eq!(found(&v6, "127.0.0.1:80", None), None);
        assert_eq!(found(&v6, "[::]:80", None), Some(OtherKind));
        // Both declared: each is the other's neighbour, not its rival.
        let both = [v4[0], one[0]];
        assert_eq!(found(&both, "127.0.0.1:80", None), Some(Slotless));
    }
}
