//! File systems of the test's own, which only the test and its children see.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use crate::{command, report};

/// Bytes of a [`Disk`].
const DISK: u64 = 64 << 20;
/// For what its tools do.
const LIMIT: Duration = Duration::from_secs(20);
/// Frozen until the input ends.
const FREEZE: &str =
    "fsfreeze --freeze \"$1\" || exit; echo frozen; read -r _; fsfreeze --unfreeze \"$1\"";

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

/// A disk of the test's own, which can stop responding.
#[derive(Debug)]
pub struct Disk {
    at: PathBuf,
}

impl Disk {
    /// Makes one in a file beside `at`, and mounts it there.
    pub fn mount(at: &Path) -> Result<Self> {
        fs::create_dir_all(at)?;
        let image = at.with_extension("image");
        File::create(&image)?.set_len(DISK)?;
        let mut make = Command::new("mkfs.ext4");
        command::run(make.arg("-q").arg(&image), LIMIT)?.expect_success()?;
        let mut mount = Command::new("mount");
        command::run(mount.args(["-o", "loop"]).arg(&image).arg(at), LIMIT)?.expect_success()?;
        Ok(Self { at: at.to_owned() })
    }

    /// From here on whoever writes to it waits (`FIFREEZE`).
    pub fn freeze(&self) -> Result<Frozen> {
        let mut shell = Command::new("sh")
            .args(["-c", FREEZE, "sh"])
            .arg(&self.at)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let said = shell.stdout.take().context("no output")?;
        let mut line = String::new();
        let read = BufReader::new(said).read_line(&mut line);
        let frozen = Frozen { shell };
        ensure!(read? > 0, "{} cannot be frozen", self.at.display());
        Ok(frozen)
    }
}

/// It thaws when this is dropped, and when the test is killed.
#[derive(Debug)]
pub struct Frozen {
    shell: Child,
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // Its input ends with that.
        if let Err(error) = self.shell.wait() {
            report::remark(format!("a disk stays frozen: {error}"));
        }
    }
}

/// Shows `file` at `at`, in the mounts of this thread.
pub fn bind(file: &Path, at: &Path) -> Result<()> {
    mount(Some(file), at, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("show {} at {}", file.display(), at.display()))
}
