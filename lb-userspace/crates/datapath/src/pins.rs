//! Where a service's maps, programs and links are pinned.
//!
//! `<bpffs>/<service>/{maps,links}/NAME` and `<bpffs>/<service>/groups/<address>/NAME`. A service
//! is made in a staging directory and renamed into place, so that what can be found is complete.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use aya::pin::PinError;
use lb_common::GenerationId;

use super::{error::DatapathError, mirror, watched};

/// Begins the name of a staging directory; no service can be called so.
pub const STAGING: &str = "_";

/// Ends the name of a pin that takes another one's place once it is complete.
pub(super) const NEXT: &str = "_next";

/// The pin directory of one service.
#[derive(Clone, Debug)]
pub struct Pins {
    dir: PathBuf,
    /// The maps whose successors are meant when they are named.
    succeeded: Vec<&'static str>,
}

impl Pins {
    /// The pins of `service` below `bpffs`.
    pub fn new(bpffs: &Path, service: &str) -> Self {
        Self {
            dir: bpffs.join(service),
            succeeded: Vec::new(),
        }
    }

    /// The same, with successors of some maps in their places.
    pub(super) fn succeeding(&self, maps: &[&'static str]) -> Self {
        Self {
            dir: self.dir.clone(),
            succeeded: maps.to_vec(),
        }
    }

    /// Puts the successors into the places of their maps, in this order.
    pub(super) fn succeed(&self) -> Result<(), DatapathError> {
        let place = |name| self.dir.join("maps").join(name);
        let mut moved = self.succeeded.iter();
        moved
            .try_for_each(|name| {
                let place = place(name);
                mirror::giving_up(&place, || fs::rename(self.map(name), &place))
            })
            .map_err(DatapathError::system("put a map into its place"))
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether the service has pins.
    pub fn exist(&self) -> bool {
        self.dir.is_dir()
    }

    /// An empty staging directory beside this one, with the same inner layout.
    pub(super) fn stage(&self) -> Result<Self, DatapathError> {
        let name = self.dir.file_name().unwrap_or_default().to_string_lossy();
        let staging = Self {
            dir: self.dir.with_file_name(format!("{STAGING}{name}")),
            succeeded: Vec::new(),
        };
        staging.remove()?;
        for dir in ["maps", "links", "groups"] {
            fs::create_dir_all(staging.dir.join(dir))
                .map_err(DatapathError::system("make the pin directory"))?;
        }
        Ok(staging)
    }

    /// Moves a finished staging directory into place.
    pub(super) fn commit(&self, staging: &Self) -> Result<(), DatapathError> {
        fs::rename(&staging.dir, &self.dir)
            .map_err(DatapathError::system("move the pin directory into place"))
    }

    /// Takes the service out of what all services share. Only for a service that is removed while
    /// others stay.
    ///
    /// # Errors
    ///
    /// When that cannot be changed.
    pub fn leave_shared(&self) -> Result<(), DatapathError> {
        watched::leave_all(self)
    }

    /// Removes all pins: links detach, maps and programs go when nobody uses them.
    pub fn remove(&self) -> Result<(), DatapathError> {
        match mirror::giving_up(&self.dir, || fs::remove_dir_all(&self.dir)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(DatapathError::system("remove the pin directory")(error))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn map(&self, name: &str) -> PathBuf {
        let maps = self.dir.join("maps");
        if self.succeeded.contains(&name) {
            next(&maps.join(name))
        } else {
            maps.join(name)
        }
    }

    /// The names of the pinned links, and of the programs beside them.
    pub(super) fn links(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.join("links")).into_iter().flatten();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.collect()
    }

    pub(super) fn link(&self, name: &str) -> PathBuf {
        self.dir.join("links").join(name)
    }

    /// The directories of the groups.
    pub(super) fn groups(&self) -> impl Iterator<Item = PathBuf> + use<> {
        let groups = fs::read_dir(self.dir.join("groups")).into_iter().flatten();
        groups.filter_map(|group| Some(group.ok()?.path()))
    }

    /// The directory of one of the groups.
    pub(super) fn first_group(&self) -> Option<PathBuf> {
        self.groups().next()
    }

    pub(super) fn group_count(&self) -> usize {
        self.groups().count()
    }

    /// The link of a generation's `track`; `None`: the parking listener's.
    pub(super) fn track(&self, generation: Option<GenerationId>) -> PathBuf {
        let id = generation.map_or(0, GenerationId::raw);
        self.link(&format!("track-{id}"))
    }

    /// The link of `join` (by its name) to the cgroup of a generation outside the service's.
    pub(super) fn joined(&self, name: &str, generation: GenerationId) -> PathBuf {
        self.link(&format!("{name}-{}", generation.raw()))
    }

    /// The directory of a group; bpffs allows no dots in names.
    pub(super) fn group(&self, address: SocketAddr) -> PathBuf {
        self.group_of("tcp", address)
    }

    /// The directory of a group of UDP sockets.
    pub(super) fn datagram_group(&self, address: SocketAddr) -> PathBuf {
        self.group_of("udp", address)
    }

    fn group_of(&self, protocol: &str, address: SocketAddr) -> PathBuf {
        let name: String = address
            .to_string()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .collect();
        let family = if address.is_ipv4() { 4 } else { 6 };
        self.dir
            .join("groups")
            .join(format!("{protocol}{family}-{name}"))
    }
}

/// Gives a pin up, if it is there.
pub(super) fn unpin(pin: &Path) {
    match mirror::giving_up(pin, || fs::remove_file(pin)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, pin = %pin.display(), "failed to remove a pin");
        }
        _ => {}
    }
}

/// Has `pin` make a pin that replaces the one at `path`, if there is one: somebody who looks finds
/// one of the two.
pub(super) fn replace<T>(
    path: &Path,
    pin: impl FnOnce(&Path) -> Result<T, PinError>,
) -> Result<(), DatapathError> {
    let new = next(path);
    // Of an agent that died before it could move it.
    unpin(&new);
    pin(&new).map_err(DatapathError::pin(new.clone()))?;
    mirror::giving_up(path, || fs::rename(&new, path))
        .map_err(DatapathError::system("put a pin into its place"))
}

fn next(pin: &Path) -> PathBuf {
    let name = pin.file_name().unwrap_or_default().to_string_lossy();
    pin.with_file_name(format!("{name}{NEXT}"))
}
