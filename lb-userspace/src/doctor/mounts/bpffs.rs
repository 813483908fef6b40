//! The directory for the pins.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use super::nsenter;
use crate::{
    doctor::{
        finding::{Check, Finding},
        rights::Rights,
    },
    sys::{
        mounts,
        reach::{self, Access, Reach},
    },
};

/// The directory for the pins.
#[derive(Clone, Debug)]
pub(super) struct Bpffs {
    wanted: PathBuf,
    reach: Reach,
    /// Whether what exists of it is on a bpffs.
    right_kind: bool,
    /// Whether the agent would mount one for it.
    mountable: bool,
    /// Whether a name below the mount has a dot, which bpffs refuses.
    dotted: bool,
}

impl Bpffs {
    /// Looks.
    pub(super) fn gather(wanted: &Path) -> Self {
        let usual = Path::new(USUAL);
        let reach = reach::reach(wanted);
        let mountable = wanted.starts_with(usual)
            && usual.is_dir()
            && !mounts::is_bpffs(usual)
            && knows_bpffs();
        let mount = if mountable {
            Some(usual)
        } else {
            wanted.ancestors().find(|path| mounts::is_bpffs(path))
        };
        Self {
            right_kind: mounts::is_bpffs(&reach.nearest),
            dotted: mount.is_some_and(|mount| has_dotted_name(wanted, mount)),
            wanted: wanted.to_owned(),
            mountable,
            reach,
        }
    }
}

fn has_dotted_name(path: &Path, mount: &Path) -> bool {
    path.strip_prefix(mount).is_ok_and(|below| {
        below.components().any(|part| match part {
            Component::Normal(name) => name.to_string_lossy().contains('.'),
            _ => false,
        })
    })
}

/// Where the agent mounts a bpffs when there is none.
const USUAL: &str = "/sys/fs/bpf";

fn knows_bpffs() -> bool {
    fs::read_to_string("/proc/filesystems")
        .is_ok_and(|list| list.lines().any(|line| line.ends_with("\tbpf")))
}

/// The verdict.
pub(super) fn check(bpffs: &Bpffs, ip_netns: Option<&str>, rights: &Rights) -> Finding {
    let nearest = bpffs.reach.nearest.display().to_string();
    let check = Check::needed("bpffs", bpffs.wanted.display().to_string());
    let cost = "nothing outlives the agent: it does not start";
    if bpffs.dotted {
        return check.missing(
            "a name below the mount has a dot, which bpffs refuses",
            cost,
            "set HOTLB_BPFFS_DIR to a directory without",
        );
    }
    if bpffs.mountable {
        return match ip_netns {
            None => check.ok(format!("would be mounted at {USUAL} by the agent")),
            Some(name) => check.degraded(
                format!("hidden; one mounted at {USUAL} would be this command's alone"),
                "the next agent would not find what this one pinned",
                &nsenter(name),
            ),
        };
    }
    match &bpffs.reach.access {
        Access::Denied(reason) => check.refused(rights, reason, cost, "let root use it"),
        _ if !bpffs.right_kind => check.missing(
            format!("{nearest} is not on a bpffs"),
            cost,
            "unset HOTLB_BPFFS_DIR, or set it to a directory on a bpffs (mount -t bpf bpf DIRECTORY)",
        ),
        Access::ReadOnly => check.missing(
            format!("{nearest} is read-only"),
            cost,
            "remount it read-write, or set HOTLB_BPFFS_DIR",
        ),
        Access::NotADirectory => check.missing(
            format!("{nearest} is a pin, not a directory"),
            cost,
            "set HOTLB_BPFFS_DIR to another one",
        ),
        Access::Writable if bpffs.reach.exists => check.ok("there"),
        Access::Writable => check.ok(format!("would be created by the agent in {nearest}")),
    }
}

#[cfg(test)]
impl Bpffs {
    /// The usual directory, as far as `nearest`.
    pub(super) fn on(nearest: &str, right_kind: bool, access: Access) -> Self {
        Self {
            wanted: PathBuf::from("/sys/fs/bpf/hotlb"),
            reach: Reach {
                nearest: PathBuf::from(nearest),
                exists: nearest.ends_with("hotlb"),
                access,
            },
            right_kind,
            mountable: false,
            dotted: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Verdict;

    fn judge(it: &Bpffs, ip_netns: Option<&str>, rights: &Rights) -> Verdict {
        check(it, ip_netns, rights).verdict
    }

    #[test]
    fn a_bpffs_that_is_there_or_can_be() {
        let root = Rights::all();
        let there = Bpffs::on("/sys/fs/bpf/hotlb", true, Access::Writable);
        let parent = Bpffs::on("/sys/fs/bpf", true, Access::Writable);
        assert_eq!(judge(&there, None, &root), Verdict::Ok);
        assert!(
            check(&parent, None, &root)
                .found
                .contains("would be created")
        );
        let mountable = Bpffs {
            mountable: true,
            ..Bpffs::on("/sys/fs/bpf", false, Access::Writable)
        };
        assert!(
            check(&mountable, None, &root)
                .found
                .contains("would be mounted")
        );
        assert_eq!(judge(&mountable, Some("blue"), &root), Verdict::Degraded);
    }

    #[test]
    fn a_bpffs_that_cannot_be_used() {
        let root = Rights::all();
        let other = Bpffs::on("/sys/fs/bpf", false, Access::Writable);
        let read_only = Bpffs::on("/sys/fs/bpf", true, Access::ReadOnly);
        let dotted = Bpffs {
            dotted: true,
            ..Bpffs::on("/sys/fs/bpf", true, Access::Writable)
        };
        for bpffs in [&other, &read_only, &dotted] {
            assert_eq!(judge(bpffs, None, &root), Verdict::Missing, "{bpffs:?}");
        }
        let hidden = Bpffs::on("/sys/fs/bpf/hotlb", false, Access::Denied("no".to_owned()));
        assert_eq!(
            judge(&hidden, None, &Rights::of_nobody()),
            Verdict::Unchecked
        );
        assert_eq!(judge(&other, None, &Rights::of_nobody()), Verdict::Missing);
    }

    #[test]
    fn dots_count_below_the_mount_only() {
        let dotted = |path: &str| has_dotted_name(Path::new(path), Path::new("/tmp/a.b/bpf"));
        assert!(dotted("/tmp/a.b/bpf/x.y"));
        assert!(!dotted("/tmp/a.b/bpf/x/../y"));
        assert!(!dotted("/tmp/a.b/bpf"));
    }
}
