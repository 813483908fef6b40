//! What the maps of the present object are like, and which pinned ones are not.

use std::collections::HashMap;

use aya::maps::{MapData, MapType};
use lb_common::names;

use super::{DatapathError, object, pins::Pins};

/// The size of these is the agent's choice, not the object's.
const OF_CHOSEN_SIZE: [&str; 2] = [names::FLOWS, names::CONNECTION_IDS];

/// What programs rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Definition {
    kind: u32,
    key: u32,
    value: u32,
    entries: u32,
    flags: u32,
}

/// The maps of the present object, by name.
pub(super) struct Definitions(HashMap<String, Definition>);

impl Definitions {
    /// Of the present object.
    pub(super) fn own() -> Result<Self, DatapathError> {
        let maps = object::contents()?.maps;
        let defined = maps.into_iter().map(|(name, map)| {
            let definition = Definition {
                kind: map.map_type(),
                key: map.key_size(),
                value: map.value_size(),
                entries: map.max_entries(),
                flags: map.map_flags(),
            };
            (name, definition)
        });
        Ok(Self(defined.collect()))
    }

    /// The maps of a service that are pinned and are not like the present object's.
    pub(super) fn changed(&self, pins: &Pins) -> Result<Vec<&'static str>, DatapathError> {
        let mut changed = Vec::new();
        for name in names::SHARED {
            let pin = pins.map(name);
            if pin.exists() && self.is_changed(name, &pin)? {
                changed.push(name);
            }
        }
        Ok(changed)
    }

    /// A map of one of the groups that is not like the present object's. None can be made anew: a
    /// socket can be in one array only, and slots are numbered in both.
    pub(super) fn changed_in_a_group(
        &self,
        pins: &Pins,
    ) -> Result<Option<&'static str>, DatapathError> {
        for group in pins.groups() {
            for name in names::PER_GROUP {
                let pin = group.join(name);
                if pin.exists() && self.is_changed(name, &pin)? {
                    return Ok(Some(name));
                }
            }
        }
        Ok(None)
    }

    fn is_changed(&self, name: &'static str, pin: &std::path::Path) -> Result<bool, DatapathError> {
        let own = *self.0.get(name).ok_or(DatapathError::Missing(name))?;
        let info = MapData::from_pin(pin).and_then(|map| map.info());
        let info = info.map_err(DatapathError::map(name))?;
        let kind = info.map_type().map_err(DatapathError::map(name))?;
        let mut found = Definition {
            kind: kind as u32,
            key: info.key_size(),
            value: info.value_size(),
            entries: info.max_entries(),
            flags: info.map_flags(),
        };
        if kind == MapType::RingBuf {
            // Its size is in pages, and it has no entries.
            return Ok(own.kind != found.kind);
        }
        if OF_CHOSEN_SIZE.contains(&name) {
            found.entries = own.entries;
        }
        Ok(own != found)
    }
}
