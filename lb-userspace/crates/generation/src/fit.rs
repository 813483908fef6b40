//! Whether a generation's listeners are in the groups its service steers. Pure.
//!
//! Two sockets share a port only when family, address, v6only and owner are equal. A listener
//! that has not exactly the parking listener's key forms a group of its own: it would take
//! clients before the promote, or none at all.

use std::net::{IpAddr, SocketAddr};

use thiserror::Error;

use crate::sys::{listener::GroupKey, sock_diag::Waiting};

/// How a generation's listeners miss the service's groups.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Misfit {
    /// It does not listen on a declared address.
    #[error(
        "nothing listens on {address}; it listens on {}{}",
        listing(found),
        if *dual_stack { ", and a dual-stack socket is in another group than the IPv4 one: declare \
            listen = [\"[::]:PORT\"] alone, or make the server listen on both" } else { "" }
    )]
    Missing {
        /// The declared address.
        address: SocketAddr,
        /// What it does listen on, at any port.
        found: Vec<String>,
        /// Whether a dual-stack listener stands where an IPv4 one was declared.
        dual_stack: bool,
    },
    /// It listens there, but as another kind of IPv6 socket.
    #[error(
        "{address} is {} for the service and {} for the server: they are two groups{}",
        stack(*expected), stack(!*expected), advice(*expected)
    )]
    Stack {
        /// The declared address.
        address: SocketAddr,
        /// `IPV6_V6ONLY` of the parking listener.
        expected: bool,
    },
    /// Another user owns its listener.
    #[error(
        "{address} belongs to uid {expected} and the server's socket to uid {found}: set user = \
         \"…\" to the server's user"
    )]
    Owner {
        /// The declared address.
        address: SocketAddr,
        /// The group's owner.
        expected: u32,
        /// The listener's.
        found: u32,
    },
    /// A socket of its own is bound to a device.
    #[error(
        "its socket at {address} is bound to device {device} (SO_BINDTODEVICE, or a VRF): the \
         kernel prefers it to the sockets that generations share, so it takes the clients of that \
         device whichever generation is active. Make the server listen without a device"
    )]
    Bound {
        /// Where.
        address: SocketAddr,
        /// The device.
        device: String,
    },
    /// A socket of its own is at a more specific address than one that is declared.
    #[error(
        "its socket at {found} is more specific than {address}: it takes the clients of that \
         address whichever generation is active. Declare {found}, too, or make the server listen \
         on {address} only"
    )]
    Narrower {
        /// The declared address.
        address: SocketAddr,
        /// Its own.
        found: SocketAddr,
    },
    /// Its listener is an MPTCP socket, which cannot be steered.
    #[error(
        "the server listens on {address} with MPTCP, which cannot be steered: make it use TCP (Go: \
         GODEBUG=multipathtcp=0)"
    )]
    Mptcp {
        /// The address.
        address: SocketAddr,
    },
}

/// The listeners of a generation that are in one of the groups, by group, or the first misfit.
pub fn fit(groups: &[GroupKey], found: &[Waiting]) -> Result<Vec<Vec<Waiting>>, Misfit> {
    groups.iter().map(|group| members(group, found)).collect()
}

/// The first socket that gets clients of one of the `addresses` although it is in none of their
/// groups: the kernel prefers it, before a promote and after one.
pub fn stray(addresses: &[SocketAddr], found: &[Waiting]) -> Option<Misfit> {
    addresses.iter().find_map(|&address| {
        found.iter().find_map(|socket| {
            let meets = overlaps(socket.address, address) || takes_over(socket, address);
            match &socket.device {
                Some(device) if meets => Some(Misfit::Bound {
                    address: socket.address,
                    device: device.clone(),
                }),
                None if meets && is_narrower(socket.address, addresses) => Some(Misfit::Narrower {
                    address,
                    found: socket.address,
                }),
                _ => None,
            }
        })
    })
}

fn is_narrower(found: SocketAddr, addresses: &[SocketAddr]) -> bool {
    !found.ip().is_unspecified() && !addresses.contains(&found)
}

/// Whether a listener at `other` gets some of what is sent to `address`.
pub fn overlaps(other: SocketAddr, address: SocketAddr) -> bool {
    let same_family = other.is_ipv4() == address.is_ipv4();
    let wildcard = other.ip().is_unspecified() || address.ip().is_unspecified();
    other.port() == address.port() && (other.ip() == address.ip() || same_family && wildcard)
}

fn members(group: &GroupKey, found: &[Waiting]) -> Result<Vec<Waiting>, Misfit> {
    let address = group.address;
    let is_here = |w: &&Waiting| w.address == address && w.device.is_none();
    let here: Vec<&Waiting> = found.iter().filter(is_here).collect();
    if let Some(other) = here.iter().find(|w| w.uid != group.uid) {
        return Err(Misfit::Owner {
            address,
            expected: group.uid,
            found: other.uid,
        });
    }
    if here.iter().any(|w| w.v6only != group.v6only) {
        return Err(Misfit::Stack {
            address,
            expected: group.v6only,
        });
    }
    if here.iter().any(|w| w.mptcp) {
        return Err(Misfit::Mptcp { address });
    }
    if here.is_empty() {
        return Err(Misfit::Missing {
            address,
            found: found.iter().map(describe).collect(),
            dual_stack: address.is_ipv4() && found.iter().any(|w| takes_over(w, address)),
        });
    }
    Ok(here.into_iter().cloned().collect())
}

/// Whether a dual-stack listener gets what is sent to an IPv4 address nobody else listens on.
fn takes_over(waiting: &Waiting, address: SocketAddr) -> bool {
    let wildcard = matches!(waiting.address.ip(), IpAddr::V6(v6) if v6.is_unspecified());
    wildcard && !waiting.v6only && waiting.address.port() == address.port()
}

fn describe(waiting: &Waiting) -> String {
    let kind = match waiting.address {
        SocketAddr::V4(_) => String::new(),
        SocketAddr::V6(_) => format!(" ({})", stack(waiting.v6only)),
    };
    format!("{}{kind}", waiting.address)
}

fn listing(found: &[String]) -> String {
    if found.is_empty() {
        "no address at all".to_owned()
    } else {
        found.join(", ")
    }
}

/// What to do when the service expects `v6only` and the server opened the other kind.
fn advice(v6only: bool) -> &'static str {
    if v6only {
        ". Make the server listen IPv6 only, beside its IPv4 listener"
    } else {
        ", and clients wait or are served in the first. Make the server listen dual-stack (nginx: \
         ipv6only=off), or declare 0.0.0.0 and [::] both and make it listen on both"
    }
}

fn stack(v6only: bool) -> &'static str {
    if v6only { "IPv6 only" } else { "dual-stack" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::sock_diag::Protocol;

    fn group_key(address: &str, v6only: bool) -> GroupKey {
        GroupKey {
            address: address.parse().unwrap(),
            v6only,
            uid: 0,
        }
    }

    fn waiting(address: &str, v6only: bool, uid: u32) -> Waiting {
        Waiting {
            protocol: Protocol::Tcp,
            address: address.parse().unwrap(),
            v6only,
            uid,
            inode: 1,
            cookie: 1,
            cgroup: Some(1),
            queue: 0,
            backlog: 1,
            dropped: 0,
            mptcp: false,
            device: None,
            transparent: false,
        }
    }

    #[test]
    fn several_sockets_of_each_group_fit() {
        let groups = [group_key("0.0.0.0:80", false), group_key("[::]:80", true)];
        let found = [
            waiting("0.0.0.0:80", false, 0),
            waiting("0.0.0.0:80", false, 0),
            waiting("[::]:80", true, 0),
            waiting("127.0.0.1:9000", false, 0),
        ];
        let fitted = fit(&groups, &found).unwrap();
        assert_eq!(fitted.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
    }

    #[test]
    fn a_dual_stack_server_does_not_fit_a_pair_of_groups() {
        let groups = [group_key("0.0.0.0:80", false), group_key("[::]:80", true)];
        let error = fit(&groups, &[waiting("[::]:80", false, 0)]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("nothing listens on 0.0.0.0:80"), "{text}");
        assert!(text.contains("[::]:80 (dual-stack)"), "{text}");
        assert!(text.contains("declare"), "{text}");
    }

    #[test]
    fn what_the_kernel_prefers_to_the_groups_is_found() {
        let declared = ["0.0.0.0:80", "[::1]:80"].map(|address| address.parse().unwrap());
        let at = |address: &str, device: Option<&str>| Waiting {
            device: device.map(str::to_owned),
            ..waiting(address, false, 0)
        };
        let stray = |socket: Waiting| stray(&declared, &[socket]);
        assert_eq!(stray(at("0.0.0.0:80", None)), None);
        assert_eq!(stray(at("[::1]:80", None)), None);
        assert_eq!(stray(at("127.0.0.1:81", Some("lo"))), None);
        assert_eq!(stray(at("[::]:80", None)), None);
        for bound in ["0.0.0.0:80", "127.0.0.1:80", "[::1]:80", "[::]:80"] {
            let text = stray(at(bound, Some("eth7"))).unwrap().to_string();
            assert!(text.contains("eth7") && text.contains(bound), "{text}");
        }
        let narrower = stray(at("127.0.0.1:80", None)).unwrap().to_string();
        assert!(narrower.contains("127.0.0.1:80 is more specific than 0.0.0.0:80"));
        // It is in no group, so it fits none.
        let only = fit(
            &[group_key("0.0.0.0:80", false)],
            &[at("0.0.0.0:80", Some("eth7"))],
        );
        assert!(matches!(only, Err(Misfit::Missing { .. })));
    }

    #[test]
    fn every_difference_is_named() {
        let group = [group_key("[::]:80", false)];
        let stack = fit(&group, &[waiting("[::]:80", true, 0)]).unwrap_err();
        assert!(
            stack
                .to_string()
                .contains("dual-stack for the service and IPv6 only for the server: they are two"),
            "{stack}"
        );
        let owner = fit(&group, &[waiting("[::]:80", false, 33)]).unwrap_err();
        assert!(owner.to_string().contains("uid 33"), "{owner}");
        let missing = fit(&group, &[]).unwrap_err();
        assert!(
            missing.to_string().contains("no address at all"),
            "{missing}"
        );
        let mut mptcp = waiting("[::]:80", false, 0);
        mptcp.mptcp = true;
        assert!(matches!(fit(&group, &[mptcp]), Err(Misfit::Mptcp { .. })));
    }
}
