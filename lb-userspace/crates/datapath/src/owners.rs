//! Whose listener is which, for connections that move from one that closes.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use aya::maps::{HashMap, Map, MapData};
use lb_common::{GenerationId, names};

use super::{error::DatapathError, pins::Pins};

/// How long a listener stays known that is not among the listening sockets any more. The kernel
/// takes it from them first and moves its connections afterwards, one by one
/// (`inet_csk_listen_stop`), for as long as it gets the CPU for it.
const AFTER_ITS_END: Duration = Duration::from_mins(1);

/// The kernel's table of listeners: `track` adds those that it sees begin to listen, the agent the others, and the
/// agent alone removes any.
#[derive(Debug)]
pub(super) struct Owners(Mutex<Table>);

#[derive(Debug)]
struct Table {
    map: HashMap<MapData, u64, u32>,
    ended: Ended,
}

/// Since when which listeners are gone.
#[derive(Debug, Default)]
struct Ended(BTreeMap<u64, Instant>);

impl Owners {
    pub(super) fn open(pins: &Pins) -> Result<Self, DatapathError> {
        let map = MapData::from_pin(pins.map(names::LISTENERS))
            .and_then(|map| HashMap::try_from(Map::HashMap(map)))
            .map_err(DatapathError::map(names::LISTENERS))?;
        let ended = Ended::default();
        Ok(Self(Mutex::new(Table { map, ended })))
    }

    /// The listener of this cookie is the generation's; with `None` it is the parking listener.
    pub(super) fn note(
        &self,
        cookie: u64,
        generation: Option<GenerationId>,
    ) -> Result<(), DatapathError> {
        let raw = generation.map_or(0, GenerationId::raw);
        let inserted = self.lock().map.insert(cookie, raw, 0);
        inserted.map_err(DatapathError::map(names::LISTENERS))
    }

    /// Forgets those that have not been `alive` for [`AFTER_ITS_END`].
    pub(super) fn forget(&self, alive: impl Fn(u64) -> bool, now: Instant) {
        let mut table = self.lock();
        let known = table.map.keys().filter_map(Result::ok).collect::<Vec<_>>();
        let gone = known.into_iter().filter(|&cookie| !alive(cookie));
        for cookie in table.ended.over(gone, now) {
            // Gone already is as good.
            let _gone = table.map.remove(&cookie);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ended {
    /// `gone` are those that are gone now; which of them have been for [`AFTER_ITS_END`].
    fn over(&mut self, gone: impl Iterator<Item = u64>, now: Instant) -> Vec<u64> {
        let since = |cookie| (cookie, *self.0.get(&cookie).unwrap_or(&now));
        let (over, left) = gone
            .map(since)
            .partition::<BTreeMap<_, _>, _>(|&(_cookie, since)| {
                now.saturating_duration_since(since) >= AFTER_ITS_END
            });
        self.0 = left;
        over.into_keys().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_stays_known_for_a_minute_after_its_end() {
        let mut ended = Ended::default();
        let began = Instant::now();
        let second = |count| began + Duration::from_secs(count);
        assert!(ended.over([7].into_iter(), second(0)).is_empty());
        assert!(ended.over([7, 8].into_iter(), second(59)).is_empty());
        assert_eq!(ended.over([7, 8].into_iter(), second(60)), [7]);
        assert_eq!(ended.over([8].into_iter(), second(120)), [8]);
        assert!(ended.0.is_empty());
    }

    #[test]
    fn one_that_was_only_overlooked_begins_anew() {
        let mut ended = Ended::default();
        let began = Instant::now();
        ended.over([7].into_iter(), began);
        ended.over([].into_iter(), began + Duration::from_secs(30));
        let later = began + Duration::from_mins(2);
        assert!(ended.over([7].into_iter(), later).is_empty());
    }
}
