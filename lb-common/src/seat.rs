//! A generation's row in a reuseport group: which slots its listeners take.

use crate::generation::{GenerationId, raw_or_zero};

/// Where one generation's listeners stand in one group's socket array.
///
/// Packed into 64 bits so that the agent changes it with one store: a program reads the row
/// before or after, never a mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SeatRow {
    /// Whose row this is; `None` for an empty seat.
    pub generation: Option<GenerationId>,
    /// The first slot.
    pub first: u16,
    /// How many slots from there.
    pub count: u16,
}

impl SeatRow {
    /// The row as the kernel programs read it.
    #[inline(always)]
    pub const fn to_bits(self) -> u64 {
        (raw_or_zero(self.generation) as u64) << 32 | (self.first as u64) << 16 | self.count as u64
    }

    /// The row these bits say.
    #[inline(always)]
    pub const fn from_bits(bits: u64) -> Self {
        Self {
            generation: GenerationId::new((bits >> 32) as u32),
            first: (bits >> 16) as u16,
            count: bits as u16,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_survives_the_round_trip() {
        for raw in [1, 63, 65, GenerationId::MAX] {
            for (first, count) in [(1, 1), (4095, 1), (1, 4095), (0, 0), (u16::MAX, u16::MAX)] {
                let row = SeatRow {
                    generation: GenerationId::new(raw),
                    first,
                    count,
                };
                assert_eq!(SeatRow::from_bits(row.to_bits()), row);
            }
        }
        assert_eq!(SeatRow::from_bits(0), SeatRow::default());
    }
}
