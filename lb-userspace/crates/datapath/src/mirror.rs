//! Pins are held a second time, in a bpffs that is mounted nowhere: what the agent relies on can be
//! pinned again when somebody removed it, or mounted another bpffs over it.
//!
//! A link lives as long as its pin, so a pin that is gone would be a program that is detached. The
//! second one, which ends with this process, keeps it attached meanwhile. A descriptor for each of
//! them would do the same, at some forty a service.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use hotlb_sys::{bpf, clock, mounts};

use super::{
    error::DatapathError,
    pins::{NEXT, STAGING},
    watched::OF_ALL,
};

/// Of this process: there is one directory of pins, and who removes a pin must not race who looks.
static MIRROR: Mutex<Option<Mirror>> = Mutex::new(None);

/// What one look found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Mended {
    /// Pins that were gone, and are there again.
    pub pinned: Vec<PathBuf>,
    /// Why they were gone.
    pub why: String,
}

/// Looks for pins of `services` that are gone from below `bpffs`, and makes them again; other
/// people's pins may be there too. As long as nothing has changed there, this is one stat(2) a
/// directory.
///
/// # Errors
///
/// When pins cannot be held or made. Those that could be made are.
pub fn mend(bpffs: &Path, services: &[String]) -> Result<Mended, DatapathError> {
    let mut mirror = lock();
    let mirror = match &mut *mirror {
        Some(mirror) if mirror.root == bpffs => mirror,
        none => none.insert(Mirror::new(bpffs)?),
    };
    mirror.services.clear();
    mirror.services.extend(services.iter().cloned());
    mirror.mend()
}

/// Forgets what is held: somebody else was in charge of the pins meanwhile.
pub fn forget_all() {
    *lock() = None;
}

/// Has `remove` give up what is pinned at `path`, or below it, for good.
pub(super) fn giving_up<T>(path: &Path, remove: impl FnOnce() -> T) -> T {
    let mut mirror = lock();
    if let Some(mirror) = &mut *mirror {
        mirror.forget(path);
    }
    remove()
}

struct Mirror {
    root: PathBuf,
    /// Whose pins are held.
    services: BTreeSet<String>,
    mount: OwnedFd,
    dirs: BTreeMap<PathBuf, Stamp>,
    pins: BTreeMap<PathBuf, Inode>,
}

type Inode = (u64, u64);

/// The time of a directory that has to be looked into once more.
const UNKNOWN: (i64, i64) = (0, 0);

/// A directory changes its time with its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: Inode,
    changed: (i64, i64),
}

impl Stamp {
    fn of(dir: &Path) -> Option<Self> {
        let found = fs::symlink_metadata(dir)
            .ok()
            .filter(fs::Metadata::is_dir)?;
        Some(Self {
            inode: (found.dev(), found.ino()),
            changed: (found.mtime(), found.mtime_nsec()),
        })
    }

    /// Whether a change after this stamp would show: file systems count time in steps of some
    /// milliseconds.
    fn is_settled(&self) -> bool {
        let (seconds, _) = self.changed;
        clock::unix_millis_at(clock::now()) / 1000 > seconds.saturating_add(1)
    }
}

impl Mirror {
    fn new(root: &Path) -> Result<Self, DatapathError> {
        let mount = mounts::private_bpffs();
        Ok(Self {
            root: root.to_owned(),
            services: BTreeSet::new(),
            mount: mount.map_err(DatapathError::system("hold the pins a second time"))?,
            dirs: BTreeMap::new(),
            pins: BTreeMap::new(),
        })
    }

    fn mend(&mut self) -> Result<Mended, DatapathError> {
        let before = self.dirs.get(&self.root).map(|stamp| stamp.inode);
        let mut found = Mended::default();
        let root = self.root.clone();
        let looked = mounts::bpffs_dir(&root)
            .map_err(io::Error::other)
            .and_then(|()| self.look(&root, &mut found));
        if !found.pinned.is_empty() {
            let now = self.dirs.get(&root).map(|stamp| stamp.inode);
            found.why = why(&root, before.map(|(dev, _)| dev) == now.map(|(dev, _)| dev));
        }
        match looked {
            Ok(()) => Ok(found),
            Err(error) => Err(DatapathError::system("pin again what is gone")(error)),
        }
    }

    fn look(&mut self, dir: &Path, found: &mut Mended) -> io::Result<()> {
        let known = self.dirs.get(dir).copied();
        let now = Stamp::of(dir);
        let mut below = self.dirs_in(dir);
        if now.is_none() {
            fs::create_dir(dir)?;
        }
        if now.is_none() || now != known {
            // Before the look: what changes meanwhile is found by the next one.
            let stamp = Stamp::of(dir);
            fs::create_dir_all(self.place(dir))?;
            below.extend(self.look_into(dir, found)?);
            if let Some(stamp) = stamp {
                let changed = if stamp.is_settled() {
                    stamp.changed
                } else {
                    UNKNOWN
                };
                self.dirs.insert(dir.to_owned(), Stamp { changed, ..stamp });
            }
        }
        below.sort();
        below.dedup();
        let mut failed = None;
        for dir in below {
            if let Err(error) = self.look(&dir, found) {
                failed.get_or_insert(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// The directories in it.
    fn look_into(&mut self, dir: &Path, found: &mut Mended) -> io::Result<Vec<PathBuf>> {
        let mut dirs = Vec::new();
        let mut pins = BTreeMap::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let path = entry.path();
            if self.is_in_the_making(&path) || !self.is_own(&path) {
                continue;
            }
            match entry.metadata() {
                Ok(there) if there.is_dir() => dirs.push(path),
                Ok(there) => _ = pins.insert(path, (there.dev(), there.ino())),
                Err(_gone) => {}
            }
        }
        let gone: Vec<PathBuf> = self
            .pins_in(dir)
            .filter(|pin| !pins.contains_key(*pin))
            .cloned()
            .collect();
        let mut failed = None;
        for pin in gone {
            match self.pin_again(&pin) {
                Ok(()) => found.pinned.push(pin),
                Err(error) => _ = failed.get_or_insert(error),
            }
        }
        for (pin, inode) in pins {
            if self.pins.get(&pin) != Some(&inode) {
                self.hold(pin, inode);
            }
        }
        failed.map_or(Ok(dirs), Err)
    }

    /// A service, or a pin, that is being made is moved to its place when it is whole.
    fn is_in_the_making(&self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.ends_with(NEXT)
            || path.parent() == Some(&self.root)
                && name.starts_with(STAGING)
                && !name.starts_with(OF_ALL)
    }

    fn is_own(&self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        path.parent() != Some(&self.root)
            || name.starts_with(OF_ALL)
            || self.services.contains(&*name)
    }

    fn hold(&mut self, pin: PathBuf, inode: Inode) {
        let place = self.place(&pin);
        // Another one of that name, perhaps.
        let _none = fs::remove_file(&place);
        let held = bpf::pinned(&pin).and_then(|it| bpf::pin(it.as_fd(), &place));
        match held {
            Ok(()) => _ = self.pins.insert(pin, inode),
            Err(error) => tracing::debug!(
                %error,
                pin = %pin.display(),
                "failed to hold a pin a second time"
            ),
        }
    }

    fn pin_again(&mut self, pin: &Path) -> io::Result<()> {
        let held = bpf::pinned(&self.place(pin))?;
        bpf::pin(held.as_fd(), pin)?;
        let there = fs::symlink_metadata(pin)?;
        self.pins.insert(pin.to_owned(), (there.dev(), there.ino()));
        Ok(())
    }

    fn forget(&mut self, path: &Path) {
        let place = self.place(path);
        let gone = if place.is_dir() {
            fs::remove_dir_all(&place)
        } else {
            fs::remove_file(&place)
        };
        if let Err(error) = gone
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(
                %error,
                pin = %path.display(),
                "failed to give up a pin; it is held until the agent ends"
            );
        }
        self.pins.retain(|pin, _| !pin.starts_with(path));
        self.dirs.retain(|dir, _| !dir.starts_with(path));
    }

    /// Where what is pinned at `path` is held.
    fn place(&self, path: &Path) -> PathBuf {
        let mount = format!("/proc/self/fd/{}", self.mount.as_raw_fd());
        let below = path.strip_prefix(&self.root).unwrap_or(Path::new("_"));
        Path::new(&mount).join(below)
    }

    fn dirs_in(&self, dir: &Path) -> Vec<PathBuf> {
        let below = self.dirs.range(dir.to_owned()..);
        below
            .map(|(path, _)| path)
            .take_while(|path| path.starts_with(dir))
            .filter(|path| path.parent() == Some(dir))
            .cloned()
            .collect()
    }

    fn pins_in<'a>(&'a self, dir: &'a Path) -> impl Iterator<Item = &'a PathBuf> {
        let below = self.pins.range(dir.to_owned()..);
        below
            .map(|(path, _)| path)
            .take_while(move |path| path.starts_with(dir))
            .filter(move |path| path.parent() == Some(dir))
    }
}

/// Why pins are not to be seen in `dir`.
pub fn why_gone(dir: &Path) -> String {
    why(dir, false)
}

fn why(dir: &Path, same_mount: bool) -> String {
    match mounts::hidden_at(dir).filter(|_| !same_mount) {
        Some(at) => format!("another file system is mounted over {}", at.display()),
        None if same_mount => "they were removed".to_owned(),
        None => "they were removed, or their file system was unmounted".to_owned(),
    }
}

fn lock() -> MutexGuard<'static, Option<Mirror>> {
    MIRROR.lock().unwrap_or_else(PoisonError::into_inner)
}
