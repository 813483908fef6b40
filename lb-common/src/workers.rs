//! Which of a generation's listeners takes a connection.

use crate::SeatRow;

/// In a generation with as many listeners all are compared for [`Workers::Least`]. In a larger one
/// two are, which costs the same however many there are.
pub const ALL_OF: u32 = 4;

/// How the choice falls between the listeners of one generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u64)]
pub enum Workers {
    /// By the kernel's hash of the connection.
    #[default]
    Hash = 0,
    /// By the CPU the connection arrives at.
    Cpu = 1,
    /// The one with the fewest open connections of all, or of two that the hash names where a
    /// generation has more than [`ALL_OF`].
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

    /// The name in `status`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hash => "hash",
            Self::Cpu => "cpu",
            Self::Least => "least",
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

/// A slot at or behind the end is as far from the beginning.
#[inline(always)]
const fn around(slot: u32, end: u32, count: u32) -> u32 {
    if slot < end { slot } else { slot - count }
}

/// The slot with the fewest open connections, as `load` has them.
#[inline(always)]
pub(crate) fn least(row: SeatRow, hash: u32, mut load: impl FnMut(u32) -> u64) -> u32 {
    let (first, count) = (u32::from(row.first), u32::from(row.count));
    let (one, other) = two(row, hash);
    if count > ALL_OF {
        return if load(other) < load(one) { other } else { one };
    }
    let mut best = u64::MAX;
    for step in 0..ALL_OF {
        let slot = around(
            around(one + step, first + count, count),
            first + count,
            count,
        );
        // Compared as one number, so that the verifier has few ways to follow. Of those that are
        // alike the first one is taken, and the hash says who that is.
        best = best.min(load(slot) << 32 | u64::from(step) << 16 | u64::from(slot));
    }
    best as u32 & 0xffff
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
        const STEPS: u32 = if cfg!(miri) { 100 } else { 10_000 };
        for count in 2..=64 {
            let row = SeatRow {
                generation: None,
                first: 9,
                count,
            };
            for step in 0..STEPS {
                let (one, other) = two(row, step.wrapping_mul(u32::MAX / STEPS));
                assert_ne!(one, other);
                for slot in [one, other] {
                    assert!((9..9 + u32::from(count)).contains(&slot));
                }
            }
        }
    }

    #[test]
    fn the_emptiest_of_a_few_is_found_from_wherever_the_search_begins() {
        for count in 2..=4_u16 {
            let row = SeatRow {
                generation: None,
                first: 7,
                count,
            };
            for emptiest in 7..7 + u32::from(count) {
                for step in 0..1000_u32 {
                    let hash = step.wrapping_mul(4_294_967);
                    let load = |slot| if slot == emptiest { 3 } else { 4 };
                    assert_eq!(least(row, hash, load), emptiest);
                }
            }
        }
    }

    #[test]
    fn of_many_the_emptier_of_two_is_taken() {
        let row = SeatRow {
            generation: None,
            first: 0,
            count: 32,
        };
        for step in 0..1000_u32 {
            let hash = step.wrapping_mul(4_294_967);
            let (one, other) = two(row, hash);
            assert_eq!(least(row, hash, |slot| u64::from(slot == one)), other);
            assert_eq!(least(row, hash, |_slot| 0), one);
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
