//! A set of seats, in two cells of a map.

use crate::{GenerationId, SEATS};

/// Generations by their seats: a bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeatSet {
    /// Seats 0 to 63.
    lower: u64,
    /// Seats 64 to 127.
    upper: u64,
}

impl SeatSet {
    /// Nobody.
    pub const EMPTY: Self = Self::from_cells(0, 0);

    /// As it is stored.
    #[inline(always)]
    pub const fn from_cells(lower: u64, upper: u64) -> Self {
        const { assert!(SEATS == 2 * u64::BITS) };
        Self { lower, upper }
    }

    /// To be stored: seats 0 to 63, then the others.
    pub const fn cells(self) -> [u64; 2] {
        [self.lower, self.upper]
    }

    /// Whether the generation's seat is in it.
    #[inline(always)]
    pub const fn has(self, generation: GenerationId) -> bool {
        let seat = generation.seat();
        let cell = if seat < u64::BITS {
            self.lower
        } else {
            self.upper
        };
        cell >> (seat % u64::BITS) & 1 != 0
    }

    /// With the generation's seat.
    #[must_use]
    pub const fn with(mut self, generation: GenerationId) -> Self {
        let bit = 1 << (generation.seat() % u64::BITS);
        if generation.seat() < u64::BITS {
            self.lower |= bit;
        } else {
            self.upper |= bit;
        }
        self
    }

    /// Without the generation's seat.
    #[must_use]
    pub const fn without(self, generation: GenerationId) -> Self {
        let one = Self::EMPTY.with(generation);
        Self::from_cells(self.lower & !one.lower, self.upper & !one.upper)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_seat_has_a_bit_of_its_own() {
        let all = || (1..SEATS).filter_map(GenerationId::new);
        let full = all().fold(SeatSet::EMPTY, SeatSet::with);
        for one in all() {
            let (alone, others) = (SeatSet::EMPTY.with(one), full.without(one));
            for id in all() {
                assert_eq!(alone.has(id), id == one, "{id:?} with {one:?}");
                assert_eq!(others.has(id), id != one, "{id:?} without {one:?}");
            }
            let [lower, upper] = alone.cells();
            assert_eq!(SeatSet::from_cells(lower, upper), alone);
            assert_eq!(alone.without(one), SeatSet::EMPTY);
        }
    }
}
