//! What `join` knows about a service's ports.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::ticket::address_words;

/// A declared listen address: six words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenKey {
    udp: bool,
    v6: bool,
    port: u16,
    address: [u32; 4],
}

impl ListenKey {
    /// Length of the key in words.
    pub const WORDS: usize = 6;

    /// The key of a declared address.
    pub fn new(address: IpAddr, port: u16) -> Self {
        Self {
            udp: false,
            v6: address.is_ipv6(),
            port,
            address: address_words(address),
        }
    }

    /// The key of an IPv4 bind; the address in host order.
    #[inline(always)]
    pub const fn v4(address: u32, port: u16) -> Self {
        Self {
            udp: false,
            v6: false,
            port,
            address: [0, 0, 0xffff, address],
        }
    }

    /// The key of an IPv6 bind; the words in host order.
    #[inline(always)]
    pub const fn v6(address: [u32; 4], port: u16) -> Self {
        Self {
            udp: false,
            v6: true,
            port,
            address,
        }
    }

    /// The same address of UDP, if `udp`.
    #[must_use]
    #[inline(always)]
    pub const fn of(self, udp: bool) -> Self {
        Self { udp, ..self }
    }

    /// The declared addresses of which one must be there for clients of this one, in words of
    /// [`ListenKey::v6`], to be the service's: itself, any of its family, and any at all, which
    /// IPv6 sockets take IPv4 clients by.
    #[inline(always)]
    pub const fn reaching(address: [u32; 4], port: u16) -> [Self; 3] {
        let any = Self::v6([0; 4], port);
        match address {
            [0, 0, 0xffff, v4] => [Self::v4(v4, port), Self::v4(0, port), any],
            _ => [Self::v6(address, port), any, any],
        }
    }

    /// The key as the map holds it.
    #[inline(always)]
    pub const fn to_words(self) -> [u32; Self::WORDS] {
        let [a, b, c, d] = self.address;
        [
            (self.udp as u32) << 1 | self.v6 as u32,
            self.port as u32,
            a,
            b,
            c,
            d,
        ]
    }
}

/// Whose listener it is and where it listens: the key of one that has no slot yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreshKey {
    /// The generation's id.
    pub generation: u32,
    /// Where it listens.
    pub address: ListenKey,
}

impl FreshKey {
    /// Length of the key in words.
    pub const WORDS: usize = 1 + ListenKey::WORDS;

    /// The key as the map holds it.
    #[inline(always)]
    pub const fn to_words(self) -> [u32; Self::WORDS] {
        let [kind, port, ip0, ip1, ip2, ip3] = self.address.to_words();
        [self.generation, kind, port, ip0, ip1, ip2, ip3]
    }
}

/// The key of a port's rule: the number itself for TCP, which `track` asks for, and one of its own
/// for UDP.
#[inline(always)]
pub const fn port_key(port: u16, udp: bool) -> u32 {
    (udp as u32) << 16 | port as u32
}

/// Refuse a bind of the service's port on an address that is not declared.
pub const UNDECLARED_REFUSE: u32 = 0;
/// Move such a bind to the declared address of the same family.
pub const UNDECLARED_REWRITE: u32 = 1;

/// What happens to binds of one of the service's ports: eight words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindRule {
    /// [`UNDECLARED_REFUSE`] or [`UNDECLARED_REWRITE`].
    pub undeclared: u32,
    /// The owner of the group: a bind by another user is reported, for the kernel refuses it.
    pub uid: u32,
    /// Who alone may have programs decide about the group: the lower half of the id of the agent's cgroup; `None`:
    /// anybody.
    pub steered_by: Option<u32>,
    /// Where an IPv4 bind is moved to, in host order.
    pub v4: Option<u32>,
    /// Where an IPv6 bind is moved to, in host order.
    pub v6: Option<[u32; 4]>,
}

impl BindRule {
    /// Length of the rule in words.
    pub const WORDS: usize = 8;

    const HAS_V4: u32 = 1 << 8;
    const HAS_V6: u32 = 1 << 9;
    const STEERED: u32 = 1 << 10;

    /// The rule for a port with these declared addresses.
    pub fn new(undeclared: u32, uid: u32, v4: Option<Ipv4Addr>, v6: Option<Ipv6Addr>) -> Self {
        Self {
            undeclared,
            uid,
            steered_by: None,
            v4: v4.map(u32::from),
            v6: v6.map(|v6| address_words(IpAddr::V6(v6))),
        }
    }

    /// The same, for a service about whose groups only programs of the agent in this cgroup may decide.
    #[must_use]
    pub const fn steered_by(self, cgroup: Option<u64>) -> Self {
        let steered_by = match cgroup {
            Some(id) => Some(id as u32),
            None => None,
        };
        Self { steered_by, ..self }
    }

    /// The rule as the map holds it.
    pub fn to_words(self) -> [u32; Self::WORDS] {
        let mut flags = self.undeclared;
        if self.v4.is_some() {
            flags |= Self::HAS_V4;
        }
        if self.v6.is_some() {
            flags |= Self::HAS_V6;
        }
        if self.steered_by.is_some() {
            flags |= Self::STEERED;
        }
        let [a, b, c, d] = self.v6.unwrap_or_default();
        let (v4, cgroup) = (
            self.v4.unwrap_or_default(),
            self.steered_by.unwrap_or_default(),
        );
        [flags, self.uid, v4, a, b, c, d, cgroup]
    }

    /// The rule these words say.
    #[inline(always)]
    pub const fn from_words(words: &[u32; Self::WORDS]) -> Self {
        let &[flags, uid, v4, a, b, c, d, cgroup] = words;
        Self {
            undeclared: flags & 0xff,
            uid,
            steered_by: if flags & Self::STEERED != 0 {
                Some(cgroup)
            } else {
                None
            },
            v4: if flags & Self::HAS_V4 != 0 {
                Some(v4)
            } else {
                None
            },
            v6: if flags & Self::HAS_V6 != 0 {
                Some([a, b, c, d])
            } else {
                None
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_and_the_agent_spell_an_address_alike() {
        let v4 = ListenKey::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 80);
        assert_eq!(v4, ListenKey::v4(0x7f00_0001, 80));
        let v6 = ListenKey::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 80);
        assert_eq!(v6, ListenKey::v6([0, 0, 0, 1], 80));
        assert_ne!(
            ListenKey::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 80).to_words(),
            ListenKey::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 80).to_words()
        );
    }

    #[test]
    fn udp_and_tcp_of_one_port_are_two() {
        let tcp = ListenKey::v4(0, 53);
        assert_ne!(tcp.to_words(), tcp.of(true).to_words());
        assert_ne!(
            tcp.of(true).to_words(),
            ListenKey::v6([0; 4], 53).of(true).to_words()
        );
        assert_eq!(port_key(53, false), 53);
        assert_ne!(port_key(53, true), 53);
    }

    #[test]
    fn a_rule_survives_the_round_trip() {
        for v4 in [None, Some(Ipv4Addr::UNSPECIFIED), Some(Ipv4Addr::LOCALHOST)] {
            for v6 in [None, Some(Ipv6Addr::UNSPECIFIED), Some(Ipv6Addr::LOCALHOST)] {
                for undeclared in [UNDECLARED_REFUSE, UNDECLARED_REWRITE] {
                    for cgroup in [None, Some(0x1_0000_0007)] {
                        let rule = BindRule::new(undeclared, 33, v4, v6).steered_by(cgroup);
                        assert_eq!(BindRule::from_words(&rule.to_words()), rule);
                    }
                }
            }
        }
    }
}
