//! One `received` and one `sent` for all services of an agent.
//!
//! Every socket of the host passes them at each read and write. An instance for each service would
//! cost every connection of the host the more, the more services there are. So there is one of each,
//! which finds the service's tables by network namespace and port. Where two services have one port
//! (on two addresses of a network), the first is in the tables, and the other has instances of its
//! own.
//!
//! Each object has tables and programs of its own. A service is entered in those of the present one
//! before it leaves a former one's: for that moment both see its connections, and the second one finds
//! everything noted. What no service is in any more is given up.

use std::{
    fs,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use aya::maps::{Array, HashOfMaps, Map, MapData};
use hotlb_sys::{bpf, mapped::MappedCells};
use lb_common::{
    names,
    recent::WORDS,
    watched::{self, bit, port_of},
};

use super::{error::DatapathError, mirror, object, pins::Pins};

/// Who changes what all services share does so alone.
static TURN: Mutex<()> = Mutex::new(());

/// Begins the name of the directory of what all services share.
pub(super) const OF_ALL: &str = "__all-";

/// Where that is pinned.
#[derive(Clone, Debug)]
pub(super) struct OfAll(PathBuf);

/// The tables.
struct Tables {
    watched: MappedCells,
    recents: MapData,
    histograms: MapData,
}

impl OfAll {
    /// Of the agent that has these pins.
    pub(super) fn beside(pins: &Pins) -> Self {
        Self::below(pins.dir().parent().unwrap_or(pins.dir()))
    }

    /// Of the agent that pins below `bpffs`. No service, and no staging directory of one, has such
    /// a name; another object has another.
    fn below(bpffs: &Path) -> Self {
        Self(bpffs.join(format!("{OF_ALL}{:016x}", object::digest())))
    }

    /// Those of the present object and of all others.
    fn every(bpffs: &Path) -> Vec<Self> {
        let entries = fs::read_dir(bpffs).into_iter().flatten();
        let entries = entries.filter_map(Result::ok);
        let is_one = |name: &str| name.starts_with(OF_ALL);
        let found = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_one));
        found.map(|entry| Self(entry.path())).collect()
    }

    /// Those of other objects.
    fn others(pins: &Pins) -> Vec<Self> {
        let present = Self::beside(pins);
        let mut every = Self::every(pins.dir().parent().unwrap_or(pins.dir()));
        every.retain(|all| all.0 != present.0);
        every
    }

    /// Whether the service is at every key in the tables of any object whose programs run.
    ///
    /// # Errors
    ///
    /// When the pins cannot be opened.
    pub(super) fn any_has(
        pins: &Pins,
        keys: &[u64],
        programs: &[&str],
    ) -> Result<bool, DatapathError> {
        for all in Self::every(pins.dir().parent().unwrap_or(pins.dir())) {
            let run = programs.iter().all(|name| all.pin(name).exists());
            if run && all.has(pins, keys)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes the service out of the tables of other objects, and gives up those that are empty then.
    ///
    /// # Errors
    ///
    /// As [`OfAll::leave`].
    pub(super) fn leave_others(pins: &Pins) -> Result<(), DatapathError> {
        for other in Self::others(pins) {
            let turn = turn();
            let is_empty = match other.open() {
                Ok(tables) => {
                    other.leave_in_turn(pins, &turn)?;
                    tables.keys()?.is_empty()
                }
                // Half made, or half given up.
                Err(_incomplete) => true,
            };
            if is_empty {
                other.give_up();
            }
        }
        Ok(())
    }

    fn give_up(&self) {
        match mirror::giving_up(&self.0, || fs::remove_dir_all(&self.0)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%error, dir = %self.0.display(), "failed to remove shared pins");
            }
            _ => {}
        }
    }

    /// The pin of a map or a link.
    pub(super) fn pin(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Waits until nobody else makes the maps, unless they are there already.
    pub(super) fn make(&self) -> Option<MutexGuard<'static, ()>> {
        if names::OF_ALL.iter().all(|name| self.pin(name).exists()) {
            return None;
        }
        let turn = turn();
        if let Err(error) = fs::create_dir_all(&self.0) {
            // The loader says what does not work without it.
            tracing::warn!(%error, "failed to create the directory of shared pins");
        }
        Some(turn)
    }

    /// Whether the tables have the service at every key.
    ///
    /// # Errors
    ///
    /// When the pins cannot be opened.
    pub(super) fn has(&self, pins: &Pins, keys: &[u64]) -> Result<bool, DatapathError> {
        // Under the turn: another service may give them up.
        let _turn = turn();
        if !self.pin(names::RECENTS).exists() {
            return Ok(false);
        }
        let tables = self.open()?;
        let own = id_of(&map(pins, names::RECENT)?)?;
        for &key in keys {
            if tables.holder(key)? != Some(own) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Enters the service at every key, or nowhere if another service has one of them: says which.
    ///
    /// # Errors
    ///
    /// When a map cannot be opened or changed.
    pub(super) fn enter(&self, pins: &Pins, keys: &[u64]) -> Result<bool, DatapathError> {
        let _turn = turn();
        let tables = self.open()?;
        let recent = map(pins, names::RECENT)?;
        let histograms = map(pins, names::LATENCY)?;
        let own = id_of(&recent)?;
        for &key in keys {
            if tables.holder(key)?.is_some_and(|holder| holder != own) {
                return Ok(false);
            }
        }
        let failed = DatapathError::system("enter the service's tables");
        keys.iter()
            .try_for_each(|&key| {
                bpf::set_inner(tables.histograms.fd().as_fd(), key, histograms.fd().as_fd())?;
                bpf::set_inner(tables.recents.fd().as_fd(), key, recent.fd().as_fd())
            })
            .map_err(failed)?;
        for &key in keys {
            let (word, bit) = bit(port_of(key));
            let before = tables.watched.load(word as usize);
            tables.watched.store(word as usize, before | bit);
        }
        Ok(true)
    }

    /// Takes the service out, wherever it is.
    ///
    /// # Errors
    ///
    /// When a map cannot be opened or changed.
    pub(super) fn leave(&self, pins: &Pins) -> Result<(), DatapathError> {
        self.leave_in_turn(pins, &turn())
    }

    fn leave_in_turn(&self, pins: &Pins, _turn: &MutexGuard<'_, ()>) -> Result<(), DatapathError> {
        if !self.pin(names::RECENTS).exists() || !pins.map(names::RECENT).exists() {
            return Ok(());
        }
        let tables = self.open()?;
        let own = id_of(&map(pins, names::RECENT)?)?;
        let mut left = vec![0_u64; watched::WORDS as usize];
        for key in tables.keys()? {
            if tables.holder(key)? == Some(own) {
                let recents = bpf::remove_inner(tables.recents.fd().as_fd(), key);
                recents
                    .and_then(|()| bpf::remove_inner(tables.histograms.fd().as_fd(), key))
                    .map_err(DatapathError::system("take the service's tables out"))?;
            } else {
                let (word, bit) = bit(port_of(key));
                left.iter_mut()
                    .skip(word as usize)
                    .take(1)
                    .for_each(|w| *w |= bit);
            }
        }
        for (word, bits) in left.into_iter().enumerate() {
            tables.watched.store(word, bits);
        }
        Ok(())
    }

    fn open(&self) -> Result<Tables, DatapathError> {
        let map = |name| MapData::from_pin(self.pin(name)).map_err(DatapathError::map(name));
        let watched = MappedCells::new(map(names::WATCHED)?.fd(), watched::WORDS as usize);
        Ok(Tables {
            watched: watched.map_err(DatapathError::system("map the set of ports"))?,
            recents: map(names::RECENTS)?,
            histograms: map(names::HISTOGRAMS)?,
        })
    }
}

impl Tables {
    /// The id of the map at a key.
    fn holder(&self, key: u64) -> Result<Option<u32>, DatapathError> {
        bpf::inner_at(self.recents.fd().as_fd(), key)
            .map_err(DatapathError::system("look a port up"))
    }

    fn keys(&self) -> Result<Vec<u64>, DatapathError> {
        let duplicate = MapData::from_fd(
            self.recents
                .fd()
                .as_fd()
                .try_clone_to_owned()
                .map_err(DatapathError::system("duplicate a map"))?,
        )
        .map_err(DatapathError::map(names::RECENTS))?;
        let table: HashOfMaps<MapData, u64, Array<MapData, [u64; WORDS]>> =
            HashOfMaps::try_from(Map::HashOfMaps(duplicate))
                .map_err(DatapathError::map(names::RECENTS))?;
        Ok(table.keys().filter_map(Result::ok).collect())
    }
}

/// Gives up what the services of the agent that pins below `bpffs` share; once there are none.
pub fn give_up_shared(bpffs: &Path) {
    let _turn = turn();
    OfAll::every(bpffs).iter().for_each(OfAll::give_up);
}

/// Takes the service out of everything that all services share, of whatever object.
pub(super) fn leave_all(pins: &Pins) -> Result<(), DatapathError> {
    let every = OfAll::every(pins.dir().parent().unwrap_or(pins.dir()));
    every.iter().try_for_each(|all| all.leave(pins))
}

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn map(pins: &Pins, name: &'static str) -> Result<MapData, DatapathError> {
    MapData::from_pin(pins.map(name)).map_err(DatapathError::map(name))
}

fn id_of(map: &MapData) -> Result<u32, DatapathError> {
    let info = map.info().map_err(DatapathError::map(names::RECENT))?;
    Ok(info.id())
}
