//! Generation ids and the seat each one takes in the kernel's tables.

use core::num::NonZeroU32;

/// Generations that can exist at once, the parking listener's seat included.
pub const SEATS: u32 = 128;

const BITS: u32 = 20;

/// The id of a generation: never reused, `1..2^20` without the multiples of [`SEATS`].
///
/// The lowest seven bits are the *seat*: the index of the generation's row in every per-generation
/// map. Seat 0 belongs to the parking listener, so no generation has it. Two live generations
/// never share a seat; a row carries the whole id, so a stale id finds a row that is not its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GenerationId(NonZeroU32);

impl GenerationId {
    /// The greatest id that fits into a steering word.
    pub const MAX: u32 = (1 << BITS) - 1;

    /// The id with this number, or `None` if it is 0, too large, or has the parking seat.
    #[inline(always)]
    pub const fn new(raw: u32) -> Option<Self> {
        if raw > Self::MAX || raw.is_multiple_of(SEATS) {
            return None;
        }
        match NonZeroU32::new(raw) {
            Some(raw) => Some(Self(raw)),
            None => None,
        }
    }

    /// The number, as it stands in words and rows.
    #[inline(always)]
    pub const fn raw(self) -> u32 {
        self.0.get()
    }

    /// The index of this generation's row, `1..SEATS`.
    #[inline(always)]
    pub const fn seat(self) -> u32 {
        self.0.get() % SEATS
    }

    /// The next id after `last` whose seat `taken` does not claim; `None` when all are taken or
    /// the ids are used up.
    pub fn next_free(last: u32, taken: impl Fn(u32) -> bool) -> Option<Self> {
        (last.checked_add(1)?..=Self::MAX)
            .take(SEATS as usize)
            .filter_map(Self::new)
            .find(|id| !taken(id.seat()))
    }
}

/// `Option<GenerationId>` as the number 0 or the id.
#[inline(always)]
pub(crate) const fn raw_or_zero(id: Option<GenerationId>) -> u32 {
    match id {
        Some(id) => id.raw(),
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parking_seat_is_never_given_away() {
        for raw in 0..=2 * SEATS {
            assert_eq!(GenerationId::new(raw).is_none(), raw % SEATS == 0, "{raw}");
        }
        assert_eq!(GenerationId::new(GenerationId::MAX + 1), None);
    }

    #[test]
    fn next_free_skips_taken_seats_and_never_goes_back() {
        let next = |last, taken: &[u32]| {
            GenerationId::next_free(last, |seat| taken.contains(&seat)).map(GenerationId::raw)
        };
        assert_eq!(next(0, &[]), Some(1));
        assert_eq!(next(127, &[]), Some(129));
        assert_eq!(next(1, &[2, 3]), Some(4));
        assert_eq!(next(126, &[127]), Some(129));
        assert_eq!(next(GenerationId::MAX, &[]), None);
        assert_eq!(GenerationId::next_free(0, |_| true), None);
    }
}
