//! Where cgroup v2 and bpffs are mounted.

use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, CGROUP2_SUPER_MAGIC, statfs},
};
use procfs::process::Process;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use thiserror::Error;

/// Why a file system hotlb needs cannot be used.
#[derive(Debug, Error)]
pub enum MountError {
    /// The list of mounts cannot be read.
    #[error("cannot read /proc/self/mountinfo: {0}")]
    Unreadable(#[source] procfs::ProcError),
    /// There is no cgroup v2 mount.
    #[error(
        "no cgroup2 file system is mounted; mount one (mount -t cgroup2 none /sys/fs/cgroup). \
         Inside `ip netns exec` it is hidden: enter the namespace with `nsenter --net=` instead"
    )]
    NoCgroup2,
    /// The directory is not on a bpffs and none can be mounted.
    #[error(
        "{path} is not on a bpf file system, and mounting one failed: {reason}; \
         mount -t bpf bpf /sys/fs/bpf, or set HOTLB_BPFFS_DIR"
    )]
    NoBpffs {
        /// The wanted directory.
        path: PathBuf,
        /// What mount(2) or mkdir(2) said.
        reason: io::Error,
    },
}

/// The mount point of the cgroup v2 hierarchy: alone, or beside v1 ("unified").
///
/// # Errors
///
/// [`MountError::NoCgroup2`] if there is none that can be seen from here.
pub fn cgroup2() -> Result<PathBuf, MountError> {
    let mounts = Process::myself()
        .and_then(|myself| myself.mountinfo())
        .map_err(MountError::Unreadable)?;
    mounts
        .0
        .into_iter()
        .filter(|mount| mount.fs_type == "cgroup2")
        .map(|mount| mount.mount_point)
        // A later mount may hide an earlier one: ask the path itself.
        .find(|path| statfs(path).is_ok_and(|fs| fs.filesystem_type() == CGROUP2_SUPER_MAGIC))
        .ok_or(MountError::NoCgroup2)
}

/// Whether `path` lies on a bpffs.
pub fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC)
}

/// A bpffs that is mounted nowhere: nobody else sees it, and it is gone with its last descriptor.
/// Paths in it go through `/proc/self/fd`.
///
/// # Errors
///
/// What fsopen(2) or fsmount(2) said.
pub fn private_bpffs() -> io::Result<OwnedFd> {
    let context = fsopen("bpf", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let mount = fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )?;
    Ok(mount)
}

/// Where at or above `path` a file system is mounted over a bpffs, so that only the upper one is seen.
pub fn hidden_at(path: &Path) -> Option<PathBuf> {
    let mounts = Process::myself()
        .and_then(|myself| myself.mountinfo())
        .ok()?
        .0;
    // The last of those at one place is the one on top.
    let mut upper = None;
    for mount in &mounts {
        let deeper =
            |than: &&procfs::process::MountInfo| mount.mount_point.starts_with(&than.mount_point);
        if path.starts_with(&mount.mount_point) && upper.as_ref().is_none_or(deeper) {
            upper = Some(mount);
        }
    }
    let upper = upper?;
    let below = mounts.iter().find(|mount| mount.mnt_id == upper.pid)?;
    (below.fs_type == "bpf").then(|| upper.mount_point.clone())
}

/// Makes `path` a directory on a bpffs, mounting one at `/sys/fs/bpf` when that is where the
/// path leads and nothing is mounted there (as bpftool does).
///
/// # Errors
///
/// [`MountError::NoBpffs`] with what the system said.
pub fn bpffs_dir(path: &Path) -> Result<(), MountError> {
    let refuse = |reason| MountError::NoBpffs {
        path: path.to_owned(),
        reason,
    };
    let usual = Path::new("/sys/fs/bpf");
    if path.starts_with(usual) && !is_bpffs(usual) {
        mount(
            Some("bpf"),
            usual,
            Some("bpf"),
            MsFlags::empty(),
            Some("mode=0700"),
        )
        .map_err(|errno| refuse(errno.into()))?;
    }
    std::fs::create_dir_all(path).map_err(refuse)?;
    if is_bpffs(path) {
        Ok(())
    } else {
        Err(refuse(io::Error::other(
            "the directory is on another file system",
        )))
    }
}
