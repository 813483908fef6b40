//! A service's ports, kept for its own processes on the whole host.

use std::{fs::File, path::Path};

use aya::{
    maps::{Array, HashMap, Map, MapData},
    programs::CgroupSockAddr,
};
use hotlb_sys::{bpf_link::Seen, cgroup::Cgroup};
use lb_common::{names, reservation};

use super::{
    error::DatapathError,
    loaders::Constants,
    make, object,
    pins::{Pins, unpin},
};

const PROGRAMS: [(&str, Seen); 2] = [
    (names::RESERVE4, Seen::Bind4),
    (names::RESERVE6, Seen::Bind6),
];

/// Refuses the service's ports in the network with this cookie to all processes below `host` that are in none of the
/// service's cgroups, of which `own` is the first.
pub(super) fn reserve(
    pins: &Pins,
    host: &Path,
    network: u64,
    own: &Cgroup,
) -> Result<(), DatapathError> {
    let group = pins.first_group();
    let group = group.ok_or(DatapathError::Missing("a group's pins"))?;
    let host = File::open(host).map_err(DatapathError::system("open the root of the cgroups"))?;
    // With the maps, if a former agent did not have them.
    let mut object = object::load(pins, &group, Constants::default())?;
    allow(pins, own)?;
    store(pins, network)?;
    for (name, seen) in PROGRAMS {
        let program: &mut CgroupSockAddr = make::program(&mut object, name)?;
        let loaded = make::loaded(program, name)?;
        make::watch(&loaded, (name, seen), &host, pins)?;
    }
    Ok(())
}

/// Reserves nothing.
pub(super) fn give_up(pins: &Pins) {
    for (name, _) in PROGRAMS {
        unpin(&pins.link(&format!("{name}-link")));
        unpin(&pins.link(name));
    }
}

/// The processes of a cgroup may bind the service's ports, those of its children too.
pub(super) fn allow(pins: &Pins, cgroup: &Cgroup) -> Result<(), DatapathError> {
    let id = cgroup
        .id()
        .map_err(DatapathError::system("look at a cgroup"))?;
    reserved(pins)?
        .insert(id, 1, 0)
        .map_err(DatapathError::map(names::RESERVED))
}

/// They may no longer, if they could.
pub(super) fn forbid(pins: &Pins, cgroup: &Cgroup) {
    if let (Ok(id), Ok(mut reserved)) = (cgroup.id(), reserved(pins)) {
        let _none = reserved.remove(&id);
    }
}

fn store(pins: &Pins, network: u64) -> Result<(), DatapathError> {
    let error = DatapathError::map(names::RESERVATION);
    let map = MapData::from_pin(pins.map(names::RESERVATION));
    let row = map.and_then(|map| Array::<_, [u64; reservation::CELLS]>::try_from(Map::Array(map)));
    let mut row = row.map_err(DatapathError::map(names::RESERVATION))?;
    let mut cells = [0; reservation::CELLS];
    if let Some(cell) = cells.get_mut(reservation::NETWORK) {
        *cell = network;
    }
    row.set(0, cells, 0).map_err(error)
}

fn reserved(pins: &Pins) -> Result<HashMap<MapData, u64, u32>, DatapathError> {
    MapData::from_pin(pins.map(names::RESERVED))
        .and_then(|map| HashMap::try_from(Map::HashMap(map)))
        .map_err(DatapathError::map(names::RESERVED))
}
