//! How old connections are.

use std::time::Duration;

use lb_common::{AGE_WORDS, AGES, age_row, names};

use super::{DatapathError, Pins};
use crate::{clock, sys::mapped::MappedCells};

/// The table that `track` writes.
#[derive(Debug)]
pub(super) struct Ages(MappedCells);

impl Ages {
    pub(super) fn open(pins: &Pins) -> Result<Self, DatapathError> {
        let map = aya::maps::MapData::from_pin(pins.map(names::OPENED))
            .map_err(DatapathError::map(names::OPENED))?;
        MappedCells::new(map.fd(), AGES * AGE_WORDS)
            .map(Self)
            .map_err(DatapathError::system("map the ages of connections"))
    }

    /// How long ago a connection was opened; `None` when that is not known: a newer one has its
    /// row, or it came before there was a `track`.
    pub(super) fn of(&self, cookie: u64) -> Option<Duration> {
        let row = age_row(cookie) as usize * AGE_WORDS;
        let opened = Duration::from_nanos(self.0.load(row + 1));
        (self.0.load(row) == cookie).then(|| clock::since_boot().saturating_sub(opened))
    }
}
