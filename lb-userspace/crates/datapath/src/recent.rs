//! How old connections are.

use std::time::Duration;

use aya::maps::{Array, Map, MapData};
use hotlb_sys::clock;
use lb_common::{
    names,
    recent::{self, ASKED, COOKIE, OPENED, Said, TURN, Turn, WORDS},
};

use super::{DatapathError, Pins};

/// The table of the newest connections that `track` writes. It is asked for few connections and
/// seldom, so it is not mapped: that would be a MiB of address space a service, which counts as
/// memory of the agent's.
pub(super) struct Recent(Array<MapData, [u64; WORDS]>);

impl Recent {
    pub(super) fn open(pins: &Pins) -> Result<Self, DatapathError> {
        MapData::from_pin(pins.map(names::RECENT))
            .and_then(|map| Array::try_from(Map::Array(map)))
            .map(Self)
            .map_err(DatapathError::map(names::RECENT))
    }

    /// How long the server has had a request of this connection without a byte of its answer;
    /// `None` while it has none, or that is not known.
    pub(super) fn unanswered(&self, cookie: u64) -> Option<Duration> {
        let row = self.row(cookie)?;
        let turn = Turn::from_bits(*row.get(TURN)?);
        let asked = Duration::from_nanos(*row.get(ASKED)?);
        (turn.said == Said::Request).then(|| clock::since_boot().saturating_sub(asked))
    }

    /// How long ago a connection was opened; `None` when that is not known: a newer one has its
    /// row, or it came before there was a `track`.
    pub(super) fn age(&self, cookie: u64) -> Option<Duration> {
        let opened = Duration::from_nanos(*self.row(cookie)?.get(OPENED)?);
        Some(clock::since_boot().saturating_sub(opened))
    }

    /// The row, if it is this connection's.
    fn row(&self, cookie: u64) -> Option<[u64; WORDS]> {
        let row = self.0.get(&recent::row(cookie), 0).ok()?;
        (row.get(COOKIE) == Some(&cookie)).then_some(row)
    }
}
