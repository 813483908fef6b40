//! One `received` and one `sent` for all services of an agent.
//!
//! Every socket of the host passes them at each read and write. An instance for each service would
//! cost every connection of the host the more, the more services there are. So there is one of each,
//! which finds the service's tables by network namespace and port. Where two services have one port
//! (on two addresses of a network), the first is in the tables, and the other has instances of its
//! own.

use std::{
    fs,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use aya::maps::{Array, HashOfMaps, Map, MapData};
use lb_common::{
    ABI_VERSION, names,
    recent::WORDS,
    watched::{self, bit, port_of},
};

use super::{error::DatapathError, pins::Pins};
use crate::sys::{bpf, mapped::MappedCells};

/// Who changes what all services share does so alone.
static TURN: Mutex<()> = Mutex::new(());

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
    /// a name; another layout has another.
    fn below(bpffs: &Path) -> Self {
        Self(bpffs.join(format!("__all-{ABI_VERSION}")))
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
            tracing::warn!(%error, "the directory of shared pins cannot be made");
        }
        Some(turn)
    }

    /// Whether the tables have the service at every key.
    ///
    /// # Errors
    ///
    /// When the pins cannot be opened.
    pub(super) fn has(&self, pins: &Pins, keys: &[u64]) -> Result<bool, DatapathError> {
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
        if !self.pin(names::RECENTS).exists() || !pins.map(names::RECENT).exists() {
            return Ok(());
        }
        let _turn = turn();
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
    let OfAll(dir) = OfAll::below(bpffs);
    let _turn = turn();
    match fs::remove_dir_all(&dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(%error, dir = %dir.display(), "shared pins stay");
        }
        _ => {}
    }
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
