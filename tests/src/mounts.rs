//! File systems of the test's own, which only the test and its children see.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

/// Runs `work` on a thread with a mount namespace of its own, and waits for it. What is mounted there nobody else sees,
/// and it is gone with the last process started there.
pub fn in_private<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).context("a mount namespace")?;
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
                .context("keep mounts to ourselves")?;
            work()
        });
        thread
            .join()
            .map_err(|panic| anyhow!("a thread with its own mounts panicked: {panic:?}"))?
    })
}

/// A small file system in memory.
#[derive(Debug)]
pub struct Tmpfs {
    at: PathBuf,
}

impl Tmpfs {
    /// Mounts one of `size` KiB; `at` is made.
    pub fn mount(at: &Path, size: u32) -> Result<Self> {
        fs::create_dir_all(at)?;
        let size = format!("size={size}k");
        mount(
            Some("tmpfs"),
            at,
            Some("tmpfs"),
            MsFlags::empty(),
            Some(size.as_str()),
        )
        .with_context(|| format!("mount a tmpfs on {}", at.display()))?;
        Ok(Self { at: at.to_owned() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// Makes it read-only, or writable again.
    pub fn read_only(&self, read_only: bool) -> Result<()> {
        let flags = if read_only {
            MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY
        } else {
            MsFlags::MS_REMOUNT
        };
        mount(None::<&str>, &self.at, None::<&str>, flags, None::<&str>)
            .with_context(|| format!("remount {}", self.at.display()))
    }

    /// Takes all the space that is left.
    pub fn fill(&self) -> Result<()> {
        let mut file = File::create(self.ballast())?;
        // A page at a time, so that none is left.
        loop {
            match file.write_all(&[0; 4096]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error).context("fill the file system"),
            }
        }
    }

    /// Gives the space back.
    pub fn free(&self) -> Result<()> {
        fs::remove_file(self.ballast()).context("free the space")
    }

    fn ballast(&self) -> PathBuf {
        self.at.join("ballast")
    }
}

/// Shows `file` at `at`, in the mounts of this thread.
pub fn bind(file: &Path, at: &Path) -> Result<()> {
    mount(Some(file), at, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("show {} at {}", file.display(), at.display()))
}
