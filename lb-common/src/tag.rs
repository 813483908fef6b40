//! The tag in a listener's socket storage, cloned by the kernel to each accepted connection.

use crate::generation::{GenerationId, raw_or_zero};

/// Whose listener a connection came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// The generation; `None` for the parking listener.
    pub generation: Option<GenerationId>,
    /// The listener's slot.
    pub slot: u32,
}

impl Tag {
    /// The tag as it is stored.
    #[inline(always)]
    pub const fn to_bits(self) -> u64 {
        (raw_or_zero(self.generation) as u64) << 32 | self.slot as u64
    }

    /// The tag these bits say.
    #[inline(always)]
    pub const fn from_bits(bits: u64) -> Self {
        Self {
            generation: GenerationId::new((bits >> 32) as u32),
            slot: bits as u32,
        }
    }

    /// The seat of the tag's generation; 0, the parking seat, for none.
    #[inline(always)]
    pub const fn seat(self) -> u32 {
        match self.generation {
            Some(generation) => generation.seat(),
            None => 0,
        }
    }
}
