//! Bringing the pins of another agent to the present object: its maps, and its programs.
//!
//! Every step may be the last one of an agent that dies, and may be done again. Clients are steered
//! by one complete program at any moment, the former or the present one, and both read the same word:
//! the agent is the only one who stores it, and stores none meanwhile.
//!
//! Why it is so: `docs/develop/decisions/0018-present-programs.md`.

use std::{fs, os::fd::AsFd as _, path::Path};

use aya::maps::{MapData, MapInfo, MapType};
use hotlb_sys::{
    bpf_copy::{self, Sizes},
    mapped::MappedCells,
};
use lb_common::{ABI_VERSION, EARLIEST_ABI, GenerationId, names, steering};

use super::{
    declared::Declared,
    definitions::Definitions,
    error::DatapathError,
    make, object,
    pins::{Pins, STAGING, unpin},
    service::steering_row,
    watched,
};

/// What may be done to the pins of another agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Former {
    /// They are brought to the present object.
    Renewed,
    /// They are used as they are: the agent that made them may take up again.
    Kept,
}

/// What became of a service's pins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// There were none: they are this program's.
    None,
    /// They were of the present object.
    Found,
    /// They are of another object and used as they are, for this reason if it was tried.
    Kept(Option<String>),
    /// They were brought to the present object, up to what is attached by who opens the service.
    Begun,
}

/// Whose programs decide about a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InForce {
    /// The beginning of their object's digest; `None` if they are of layout 5, or of several objects.
    pub object: Option<u64>,
    /// The layout version of the maps.
    pub layout: u64,
}

impl InForce {
    /// Whether they are those of this program.
    pub fn is_own(self) -> bool {
        self == Self::own()
    }

    /// Of what this program makes.
    pub fn own() -> Self {
        Self {
            object: Some(object::digest()),
            layout: u64::from(ABI_VERSION),
        }
    }

    /// Of the pins.
    pub(super) fn of(pins: &Pins) -> Result<Self, DatapathError> {
        Ok(Self::from_row(&steering_row(pins)?))
    }

    pub(super) fn from_row(row: &MappedCells) -> Self {
        let object = row.load(steering::OBJECT);
        Self {
            object: (object != 0 && object != steering::BETWEEN).then_some(object),
            layout: row.load(steering::ABI),
        }
    }

    /// Whether this program can use the maps.
    fn is_understood(self) -> bool {
        (u64::from(EARLIEST_ABI)..=u64::from(ABI_VERSION)).contains(&self.layout)
    }
}

/// Before anything else is opened: what another version made may lack what this one expects.
pub(super) fn refuse_unknown_layout(pins: &Pins) -> Result<(), DatapathError> {
    let in_force = InForce::of(pins)?;
    if in_force.is_understood() {
        return Ok(());
    }
    Err(DatapathError::Layout {
        path: pins.dir().to_owned(),
        found: in_force.layout,
        from: EARLIEST_ABI,
        own: ABI_VERSION,
    })
}

/// Whose programs decide about each service that is pinned below `bpffs`, or why that is not known.
pub fn in_force(bpffs: &Path) -> Vec<(String, Result<InForce, String>)> {
    let entries = fs::read_dir(bpffs).into_iter().flatten();
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut services: Vec<String> = names.filter(|name| !name.starts_with(STAGING)).collect();
    services.sort_unstable();
    let look = |name: String| {
        let found = InForce::of(&Pins::new(bpffs, &name)).map_err(|error| error.to_string());
        (name, found)
    };
    services.into_iter().map(look).collect()
}

/// The digest of this program's object, as [`InForce::object`].
pub fn own_object() -> u64 {
    object::digest()
}

/// Brings maps and links to the present object. The programs of groups are pinned; whoever opens the
/// service attaches them. [`done`] has the last word.
///
/// # Errors
///
/// What this kernel, or the layout, does not allow. Whatever had been replaced by then stays so.
pub(super) fn renew(pins: &Pins, cgroup: &Path, declared: &Declared) -> Result<(), DatapathError> {
    let own = Definitions::own()?;
    if let Some(name) = own.changed_in_a_group(pins)? {
        return Err(DatapathError::Unlike(name));
    }
    let mut changed = own.changed(pins)?;
    // What the word is in comes last.
    changed.sort_by_key(|&name| name == names::STEERING);
    let row = steering_row(pins)?;
    let was_between = row.load(steering::OBJECT) == steering::BETWEEN;
    if !was_between {
        row.store(steering::OBJECT, 0);
    }
    let present = pins.succeeding(&changed);
    if !changed.is_empty() {
        tracing::info!(
            pins = %pins.dir().display(),
            ?changed,
            "recreating maps and copying their contents"
        );
        let group = pins.first_group();
        let group = group.ok_or(DatapathError::Missing("a group's pins"))?;
        for &name in &changed {
            if !was_between {
                unpin(&present.map(name));
            }
        }
        let is_made = |name: &&str| present.map(name).exists();
        let missing: Vec<_> = changed.iter().copied().filter(|n| !is_made(n)).collect();
        // Makes the maps, and loads no program.
        drop(object::load(&present, &group, make::sizes(declared))?);
        for name in missing {
            copy(name, pins, &present)?;
        }
        row.store(steering::OBJECT, steering::BETWEEN);
    }
    replace_programs(&present, cgroup, declared)?;
    if changed
        .iter()
        .any(|&name| matches!(name, names::RECENT | names::LATENCY))
    {
        watched::leave_all(pins)?;
    }
    present.succeed()
}

fn replace_programs(pins: &Pins, cgroup: &Path, declared: &Declared) -> Result<(), DatapathError> {
    let of_service = make::programs(pins, cgroup, declared)?;
    let group = pins.first_group();
    let group = group.ok_or(DatapathError::Missing("a group's pins"))?;
    let links = pins.links();
    for link in &links {
        let Some((program, generation)) = of_a_generation(link) else {
            continue;
        };
        if program == names::TRACK {
            make::count_anew(pins, &group, generation)?;
        } else if let Some((_, loaded)) = of_service.iter().find(|(name, _)| *name == program) {
            make::leads_to(&pins.link(link), loaded)?;
        }
    }
    // Attached again when it is opened; its map leads to one program only.
    unpin(&pins.link(names::POLITE));
    Ok(())
}

/// The program of a link that is a generation's, by the name of its pin.
fn of_a_generation(link: &str) -> Option<(&str, GenerationId)> {
    let (program, id) = link.rsplit_once('-')?;
    Some((program, GenerationId::new(id.parse().ok()?)?))
}

/// Stores that the programs of the present object decide.
pub(super) fn done(row: &MappedCells) {
    row.store(steering::ABI, u64::from(ABI_VERSION));
    row.store(steering::OBJECT, object::digest());
}

fn copy(name: &'static str, from: &Pins, to: &Pins) -> Result<(), DatapathError> {
    let opened = |pins: &Pins| -> Result<(MapData, MapInfo), DatapathError> {
        let map = MapData::from_pin(pins.map(name)).map_err(DatapathError::map(name))?;
        let info = map.info().map_err(DatapathError::map(name))?;
        Ok((map, info))
    };
    let ((from, from_info), (to, to_info)) = (opened(from)?, opened(to)?);
    let kind = from_info.map_type().map_err(DatapathError::map(name))?;
    if to_info.map_type().map_err(DatapathError::map(name))? != kind {
        return Err(DatapathError::Unlike(name));
    }
    let cpus = match kind {
        MapType::Array | MapType::Hash | MapType::LruHash => 1,
        MapType::PerCpuArray | MapType::PerCpuHash => aya::util::nr_cpus()
            .map_err(|(_, error)| DatapathError::system("count the CPUs")(error))?,
        // Events on their way, and what belongs to sockets: it ends with those.
        _ => return Ok(()),
    };
    let sizes = |info: &MapInfo| Sizes {
        key: info.key_size() as usize,
        value: info.value_size() as usize,
        cpus,
    };
    bpf_copy::entries(
        (from.fd().as_fd(), sizes(&from_info)),
        (to.fd().as_fd(), sizes(&to_info)),
    )
    .map_err(DatapathError::system("copy a map"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_generations_are_known_by_their_names() {
        let id = GenerationId::new(7);
        assert_eq!(of_a_generation("track-7").map(|(p, _)| p), Some("track"));
        assert_eq!(of_a_generation("join4-7").map(|(_, id)| id), id);
        for other in ["join4-link", "join4", "track-0", "track-7_next", "polite"] {
            assert_eq!(of_a_generation(other), None, "{other}");
        }
    }
}
