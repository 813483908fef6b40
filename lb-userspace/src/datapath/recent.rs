//! How old connections are.

use std::time::Duration;

use aya::maps::MapData;
use lb_common::{
    names,
    recent::{self, COOKIE, OPENED},
};

use super::{DatapathError, Pins};
use crate::{clock, sys::mapped::MappedCells};

/// The table of the newest connections that `track` writes.
#[derive(Debug)]
pub(super) struct Recent(MappedCells);

impl Recent {
    pub(super) fn open(pins: &Pins) -> Result<Self, DatapathError> {
        let map = MapData::from_pin(pins.map(names::RECENT))
            .map_err(DatapathError::map(names::RECENT))?;
        MappedCells::new(map.fd(), recent::ROWS * recent::WORDS)
            .map(Self)
            .map_err(DatapathError::system("map the newest connections"))
    }

    /// How long ago a connection was opened; `None` when that is not known: a newer one has its
    /// row, or it came before there was a `track`.
    pub(super) fn age(&self, cookie: u64) -> Option<Duration> {
        let row = recent::row(cookie) as usize * recent::WORDS;
        let opened = Duration::from_nanos(self.0.load(row + OPENED));
        (self.0.load(row + COOKIE) == cookie).then(|| clock::since_boot().saturating_sub(opened))
    }
}
