//! What `status` says of servers' outputs.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    api::wire::ServiceStatus,
    clock,
    config::Places,
    generation::output::{self, Dropped},
};

/// For how long something that was dropped is a warning; it stays in the metrics.
const RECENT: Duration = Duration::from_hours(24);

/// Adds what is not as it should be.
pub(super) fn warn(
    status: &mut ServiceStatus,
    places: &Places,
    dropped: &BTreeMap<String, Dropped>,
) {
    let places = places.outputs();
    if let Some(line) = dropped.get(&status.name).and_then(lost) {
        status.warnings.push(line);
    }
    let live = status.generations.iter().filter(|g| g.state.is_live());
    let narrow = live.filter_map(|generation| {
        let room = output::narrow(&places.pipe(&status.name, &generation.name))?;
        Some(format!(
            "the output pipe of {} has room for only {} KiB: if nothing empties it (hotlb's logger \
             is stopped, or the disk hangs), the server blocks once it is full; give the agent \
             CAP_SYS_RESOURCE, or set fs.pipe-max-size to {}",
            generation.name,
            room / 1024,
            output::ROOM
        ))
    });
    let narrow: Vec<String> = narrow.collect();
    status.warnings.extend(narrow);
}

fn lost(dropped: &Dropped) -> Option<String> {
    let ago = clock::since_boot().saturating_sub(Duration::from_secs(dropped.at));
    let ago = Duration::from_secs(ago.as_secs());
    (ago < RECENT).then(|| {
        format!(
            "{} bytes of output were dropped, most recently from {} {} ago ({}); its file marks \
             the place",
            dropped.bytes,
            dropped.generation,
            humantime::format_duration(ago),
            dropped.why
        )
    })
}
