//! Which of a generation's listeners takes a connection.

use crate::SeatRow;

/// How the choice falls between the listeners of one generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u64)]
pub enum Workers {
    /// By the kernel's hash of the connection.
    #[default]
    Hash = 0,
    /// By the CPU the connection arrives at.
    Cpu = 1,
    /// The one with fewer open connections of two that the hash names.
    Least = 2,
}

impl Workers {
    /// From a cell of the steering row; what is unknown is [`Workers::Hash`].
    #[inline(always)]
    pub const fn from_bits(bits: u64) -> Self {
        match bits {
            1 => Self::Cpu,
            2 => Self::Least,
            _ => Self::Hash,
        }
    }

    /// As it is in the steering row.
    pub const fn to_bits(self) -> u64 {
        self as u64
    }
}

/// A number below `count` that a hash names: the kernel's own `reciprocal_scale`, which spreads
/// without a division.
#[inline(always)]
pub(crate) const fn scale(hash: u32, count: u32) -> u32 {
    ((hash as u64 * count as u64) >> 32) as u32
}

/// Two different slots of a row of at least two, both named by the hash.
#[inline(always)]
pub(crate) const fn two(row: SeatRow, hash: u32) -> (u32, u32) {
    let count = row.count as u32;
    let one = scale(hash, count);
    // `scale` reads the high bits. Those of the product depend on all bits of the hash: Knuth's
    // multiplicative hash, by the golden ratio.
    let step = 1 + scale(hash.wrapping_mul(0x9e37_79b1), count - 1);
    let other = one + step;
    let other = if other >= count { other - count } else { other };
    (row.first as u32 + one, row.first as u32 + other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_was_written() {
        for workers in [Workers::Hash, Workers::Cpu, Workers::Least] {
            assert_eq!(Workers::from_bits(workers.to_bits()), workers);
        }
        assert_eq!(Workers::from_bits(99), Workers::Hash);
    }

    #[test]
    fn two_are_never_the_same_and_never_outside() {
        for count in 2..=64 {
            let row = SeatRow {
                generation: None,
                first: 9,
                count,
            };
            for step in 0..10_000_u32 {
                let (one, other) = two(row, step.wrapping_mul(429_497));
                assert_ne!(one, other);
                for slot in [one, other] {
                    assert!((9..9 + u32::from(count)).contains(&slot));
                }
            }
        }
    }

    #[test]
    fn every_pair_of_four_comes_about() {
        let row = SeatRow {
            generation: None,
            first: 1,
            count: 4,
        };
        let mut pairs = [0_u32; 16];
        for step in 0..12_000_u32 {
            let (one, other) = two(row, step.wrapping_mul(2_654_435_761).rotate_left(7));
            pairs[((one - 1) * 4 + other - 1) as usize] += 1;
        }
        for (pair, &found) in pairs.iter().enumerate() {
            let expected = if pair / 4 == pair % 4 { 0 } else { 1000 };
            assert!(found.abs_diff(expected) < 150, "{pair}: {found}");
        }
    }
}
