//! Tickets: connections directed to one generation by their source address and port.

use core::net::IpAddr;

/// The key of a ticket: five words, without padding.
///
/// An IPv4 address stands as its IPv4-mapped IPv6 address, whichever family the listener has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TicketKey {
    address: [u32; 4],
    port: u16,
}

impl TicketKey {
    /// Length of the key in words.
    pub const WORDS: usize = 5;

    /// The key of connections from `address` and `port`.
    pub fn new(address: IpAddr, port: u16) -> Self {
        Self {
            address: address_words(address),
            port,
        }
    }

    /// The key from the words of a packet, in host order.
    #[inline(always)]
    pub const fn from_words(address: [u32; 4], port: u16) -> Self {
        Self { address, port }
    }

    /// The key as the map holds it.
    #[inline(always)]
    pub const fn to_words(self) -> [u32; Self::WORDS] {
        let [a, b, c, d] = self.address;
        [a, b, c, d, self.port as u32]
    }
}

/// An address as four host-order words; IPv4 as IPv4-mapped.
pub(crate) fn address_words(address: IpAddr) -> [u32; 4] {
    let octets = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    let mut words = [0_u32; 4];
    for (word, bytes) in words.iter_mut().zip(octets.chunks_exact(4)) {
        *word = bytes
            .iter()
            .fold(0, |word, &byte| word << 8 | u32::from(byte));
    }
    words
}

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn ipv4_stands_as_mapped() {
        let key = TicketKey::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4711);
        assert_eq!(key.to_words(), [0, 0, 0xffff, 0x7f00_0001, 4711]);
        let key = TicketKey::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 1);
        assert_eq!(key.to_words(), [0, 0, 0, 1, 1]);
    }
}
