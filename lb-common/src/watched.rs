//! Which sockets `received` and `sent` look at, for all services of an agent: every socket of the
//! host passes them, so one instance of them is all there may be, however many services there are.

/// Words of the set of ports: one bit each.
pub const WORDS: u32 = 1 << 10;

/// Services' ports that can be in the tables: far more than [`crate::names::WATCHED`] is asked for.
pub const PLACES: usize = 1 << 14;

/// Where a port is in the set: the word, and the bit in it.
#[inline(always)]
pub const fn bit(port: u16) -> (u32, u64) {
    (port as u32 / 64, 1 << (port % 64))
}

/// A port of a network namespace, by that one's inode: what is the same port of another one is
/// somebody else's.
#[inline(always)]
pub const fn key(namespace: u32, port: u16) -> u64 {
    (namespace as u64) << 16 | port as u64
}

/// The port in a key.
pub const fn port_of(key: u64) -> u16 {
    key as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_has_its_bit() {
        assert_eq!(bit(0), (0, 1));
        assert_eq!(bit(63), (0, 1 << 63));
        assert_eq!(bit(64), (1, 1));
        assert_eq!(bit(u16::MAX), (WORDS - 1, 1 << 63));
    }

    #[test]
    fn the_same_port_elsewhere_has_another_key() {
        assert_ne!(key(1, 80), key(2, 80));
        assert_ne!(key(1, 80), key(1, 81));
        assert_eq!(port_of(key(u32::MAX, 443)), 443);
    }
}
