//! The steering word: the one 64-bit value that decides where new connections go.

use crate::generation::{GenerationId, raw_or_zero};

/// The part of the clients a candidate gets, in thousandths (`0..=1000`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Share(u16);

impl Share {
    /// Nobody.
    pub const NONE: Self = Self(0);
    /// Everybody.
    pub const ALL: Self = Self(1000);

    /// A share of `permille` thousandths; more than 1000 is [`Share::ALL`].
    #[inline(always)]
    pub const fn permille(permille: u16) -> Self {
        if permille > 1000 {
            Self::ALL
        } else {
            Self(permille)
        }
    }

    /// The share in thousandths.
    #[inline(always)]
    pub const fn as_permille(self) -> u16 {
        self.0
    }

    /// Whether a client with this hash belongs to the share. A share that grows only adds
    /// clients: the clients of 5 % are among those of 25 %.
    #[inline(always)]
    pub const fn contains(self, client_hash: u32) -> bool {
        ((client_hash as u64 * 1000) >> 32) < self.0 as u64
    }
}

/// What a service's steering word says: one value, read and written as a whole.
///
/// | bits | 63..44 | 43..24 | 23..14 | 13..0 |
/// | --- | --- | --- | --- | --- |
/// | field | active | candidate | share | epoch |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SteeringWord {
    /// The generation that gets new connections.
    pub active: Option<GenerationId>,
    /// The generation that is next: it gets `share` of the clients, and all of them when the
    /// active one has no listener left.
    pub candidate: Option<GenerationId>,
    /// The candidate's share of the clients.
    pub share: Share,
    /// Grows by one with each store, modulo 2^14.
    pub epoch: u16,
}

const GENERATION: u64 = (1 << 20) - 1;
const SHARE: u64 = (1 << 10) - 1;
const EPOCH: u64 = (1 << 14) - 1;

impl SteeringWord {
    /// The word as the kernel programs read it.
    #[inline(always)]
    pub const fn to_bits(self) -> u64 {
        (raw_or_zero(self.active) as u64) << 44
            | (raw_or_zero(self.candidate) as u64) << 24
            | (self.share.0 as u64) << 14
            | (self.epoch as u64 & EPOCH)
    }

    /// The word these bits say. Every value is a word: a number that is no generation's means
    /// "none", a share above 1000 means all.
    #[inline(always)]
    pub const fn from_bits(bits: u64) -> Self {
        Self {
            active: GenerationId::new((bits >> 44) as u32),
            candidate: GenerationId::new((bits >> 24 & GENERATION) as u32),
            share: Share::permille((bits >> 14 & SHARE) as u16),
            epoch: (bits & EPOCH) as u16,
        }
    }

    /// This word with the next epoch.
    #[must_use]
    pub const fn next_epoch(self) -> Self {
        Self {
            epoch: (self.epoch + 1) & EPOCH as u16,
            ..self
        }
    }

    /// The generation a connection falls back to when `wanted` cannot take it.
    #[inline(always)]
    pub fn other_than(self, wanted: Option<GenerationId>) -> Option<GenerationId> {
        if wanted == self.active {
            self.candidate
        } else {
            self.active
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_survives_the_round_trip() {
        let ids = [
            None,
            GenerationId::new(1),
            GenerationId::new(GenerationId::MAX),
        ];
        for active in ids {
            for candidate in ids {
                for share in 0..=1000 {
                    for epoch in [0, 1, 0x3fff] {
                        let word = SteeringWord {
                            active,
                            candidate,
                            share: Share::permille(share),
                            epoch,
                        };
                        assert_eq!(SteeringWord::from_bits(word.to_bits()), word);
                    }
                }
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "more than an interpreter gets through")]
    fn any_bits_are_a_word() {
        let mut bits = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..100_000 {
            bits = bits.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            let word = SteeringWord::from_bits(bits);
            assert!(word.share <= Share::ALL);
            assert_eq!(SteeringWord::from_bits(word.to_bits()), word);
        }
    }

    #[test]
    fn the_epoch_wraps_within_its_bits() {
        let last = SteeringWord {
            epoch: 0x3fff,
            ..SteeringWord::default()
        };
        assert_eq!(last.next_epoch().epoch, 0);
    }

    #[test]
    #[cfg_attr(miri, ignore = "more than an interpreter gets through")]
    fn a_growing_share_only_adds_clients() {
        for step in 0..=2000_u32 {
            let hash = step.wrapping_mul(2_147_483);
            let mut inside = false;
            for permille in 0..=1000 {
                let now = Share::permille(permille).contains(hash);
                assert!(now || !inside, "client {hash} left at {permille}");
                inside = now;
            }
            assert!(!Share::NONE.contains(hash));
            assert!(Share::ALL.contains(hash));
        }
    }
}
