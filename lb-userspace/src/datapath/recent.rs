//! How old connections are.

use std::time::Duration;

use aya::maps::MapData;
use lb_common::{
    names,
    recent::{self, ASKED, COOKIE, OPENED, Said, TURN, Turn},
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

    /// How long the server has had a request of this connection without a byte of its answer;
    /// `None` while it has none, or that is not known.
    pub(super) fn unanswered(&self, cookie: u64) -> Option<Duration> {
        let row = recent::row(cookie) as usize * recent::WORDS;
        let turn = Turn::from_bits(self.0.load(row + TURN));
        let asked = Duration::from_nanos(self.0.load(row + ASKED));
        let known = self.0.load(row + COOKIE) == cookie && turn.said == Said::Request;
        known.then(|| clock::since_boot().saturating_sub(asked))
    }

    /// How long ago a connection was opened; `None` when that is not known: a newer one has its
    /// row, or it came before there was a `track`.
    pub(super) fn age(&self, cookie: u64) -> Option<Duration> {
        let row = recent::row(cookie) as usize * recent::WORDS;
        let opened = Duration::from_nanos(self.0.load(row + OPENED));
        (self.0.load(row + COOKIE) == cookie).then(|| clock::since_boot().saturating_sub(opened))
    }
}
