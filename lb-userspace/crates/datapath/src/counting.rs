//! The end of a generation's counting program.

use aya::maps::{HashMap, Map, MapData};
use lb_common::{GenerationId, names};

use super::{error::DatapathError, pins::unpin, service::ServicePath};

impl ServicePath {
    /// Gives the generation's counting program up, once the last connection that came through one of
    /// its listeners has closed. It may be asked again and again; whether it is done.
    ///
    /// A connection that moved to another generation is that one's, but it stays in the cgroup of the
    /// listener it was made by: only this program sees it close.
    pub fn stop_counting(&self, generation: GenerationId) -> bool {
        self.part(generation);
        let counts = self.connections(Some(generation));
        let moved_away = counts.moved_out > 0 && self.has_moved().unwrap_or(true);
        let is_done = counts.live == 0 && !moved_away;
        if is_done {
            unpin(&self.pins().track(Some(generation)));
            if let Some(reloads) = &self.reloads {
                reloads.forget(generation);
            }
        }
        is_done
    }

    /// Nobody is parked: sets that count to 0, and says by how much it was wrong.
    pub fn forget_parked(&self) -> i64 {
        self.live.forget_parked()
    }

    /// So many of the generation's connections have ended without `track` being told.
    pub fn forget_ended(&self, generation: GenerationId, ended: u64) {
        self.live.forget_ended(generation, ended);
    }

    /// Sets how many open connections of the generation `track` has not seen the beginning of.
    pub fn set_earlier(&self, generation: GenerationId, connections: u64) {
        self.live.set_earlier(generation, connections);
    }

    /// Whether connections are still open that were counted at this seat.
    pub fn seat_in_use(&self, seat: u32) -> bool {
        self.live.tracked(seat) != 0 || self.live.earlier(seat) != 0
    }

    /// Whether any connection is open that moved, from wherever.
    pub fn has_moved(&self) -> Result<bool, DatapathError> {
        let moved = MapData::from_pin(self.pins().map(names::MOVED))
            .and_then(|map| HashMap::<_, u64, u32>::try_from(Map::HashMap(map)))
            .map_err(DatapathError::map(names::MOVED))?;
        Ok(moved.keys().any(|key| key.is_ok()))
    }
}
