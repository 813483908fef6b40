//! cgroup2 and bpffs: where they are, or whether the agent could mount them.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use procfs::process::Process;

use super::{
    finding::{Check, Finding},
    kernel::Kernel,
    rights::Rights,
};
use crate::{
    config::Places,
    sys::{
        mounts, netns,
        reach::{self, Access, Reach},
    },
};

/// What is mounted.
#[derive(Clone, Debug)]
pub(super) struct Mounts {
    /// The namespace's name below `ip netns exec`.
    ip_netns: Option<String>,
    cgroup2: Option<Cgroup2>,
    bpffs: Bpffs,
}

/// The cgroup v2 tree and the agent's place in it.
#[derive(Clone, Debug)]
struct Cgroup2 {
    mount: PathBuf,
    agent: Reach,
    /// `None` if there is no cgroup to look at: the root of the tree has no such files.
    files: Option<Files>,
}

/// What a cgroup offers.
#[derive(Clone, Debug)]
struct Files {
    cgroup: PathBuf,
    kill: bool,
    freeze: bool,
}

/// The directory for the pins.
#[derive(Clone, Debug)]
struct Bpffs {
    wanted: PathBuf,
    reach: Reach,
    /// Whether what exists of it is on a bpffs.
    right_kind: bool,
    /// Whether the agent would mount one for it.
    mountable: bool,
}

impl Mounts {
    /// Looks.
    pub(super) fn gather(places: &Places) -> Self {
        Self {
            ip_netns: netns::entered_by_ip(),
            cgroup2: Cgroup2::gather(places),
            bpffs: Bpffs::gather(&places.bpffs),
        }
    }
}

impl Cgroup2 {
    fn gather(places: &Places) -> Option<Self> {
        let mount = mounts::cgroup2().ok()?;
        Some(Self {
            agent: reach::reach(&mount.join(&places.cgroup)),
            files: Files::gather(&mount),
            mount,
        })
    }
}

impl Files {
    /// Looks into the first cgroup that is not the root: this process's own, or any other.
    fn gather(mount: &Path) -> Option<Self> {
        let own = Process::myself()
            .and_then(|myself| myself.cgroups())
            .ok()
            .and_then(|cgroups| cgroups.0.into_iter().find(|cgroup| cgroup.hierarchy == 0))
            .map(|cgroup| mount.join(cgroup.pathname.trim_start_matches('/')));
        let below = fs::read_dir(mount).into_iter().flatten();
        let others = below.filter_map(Result::ok).map(|entry| entry.path());
        let cgroup = own
            .into_iter()
            .chain(others)
            .find(|path| path.join("cgroup.events").exists())?;
        Some(Self {
            kill: cgroup.join("cgroup.kill").exists(),
            freeze: cgroup.join("cgroup.freeze").exists(),
            cgroup,
        })
    }
}

impl Bpffs {
    fn gather(wanted: &Path) -> Self {
        let usual = Path::new(USUAL);
        let reach = reach::reach(wanted);
        Self {
            right_kind: mounts::is_bpffs(&reach.nearest),
            mountable: wanted.starts_with(usual)
                && usual.is_dir()
                && !mounts::is_bpffs(usual)
                && knows_bpffs(),
            wanted: wanted.to_owned(),
            reach,
        }
    }

    /// Whether a part of the way that does not exist has a dot in its name, which bpffs refuses.
    fn has_dotted_name(&self) -> bool {
        let rest = self.wanted.strip_prefix(&self.reach.nearest);
        let dotted = |name: &OsStr| name.to_string_lossy().contains('.');
        rest.is_ok_and(|rest| rest.iter().any(dotted))
    }
}

/// Where the agent mounts a bpffs when there is none.
const USUAL: &str = "/sys/fs/bpf";

fn knows_bpffs() -> bool {
    fs::read_to_string("/proc/filesystems")
        .is_ok_and(|list| list.lines().any(|line| line.ends_with("\tbpf")))
}

/// The verdicts.
pub(super) fn check(mounts: &Mounts, kernel: &Kernel, rights: &Rights) -> Vec<Finding> {
    let ip_netns = mounts.ip_netns.as_deref();
    let mut findings = vec![namespace(ip_netns), cgroup2(mounts, rights)];
    if let Some(tree) = &mounts.cgroup2 {
        findings.extend(kill_and_freeze(tree, kernel));
    }
    findings.push(bpffs(&mounts.bpffs, ip_netns, rights));
    findings
}

fn namespace(ip_netns: Option<&str>) -> Finding {
    let check = Check::optional("network namespace", "/proc/self/mountinfo");
    match ip_netns {
        None => check.ok("/sys is the host's"),
        Some(name) => check.degraded(
            format!("entered by `ip netns exec {name}`"),
            "that command puts a fresh /sys over the host's: cgroup2 and bpffs are hidden",
            &nsenter(name),
        ),
    }
}

fn nsenter(name: &str) -> String {
    format!("enter it by `nsenter --net=/run/netns/{name} hotlb …`, which hides nothing")
}

fn cgroup2(mounts: &Mounts, rights: &Rights) -> Finding {
    let check = Check::needed("cgroup2", "/proc/self/mountinfo");
    let cost = "generations cannot be told apart, started or killed: the agent does not start";
    let Some(tree) = &mounts.cgroup2 else {
        let advice = mounts.ip_netns.as_deref().map_or_else(
            || {
                "mount -t cgroup2 none /sys/fs/cgroup (or beside v1, in a directory of its own)"
                    .to_owned()
            },
            nsenter,
        );
        return check.missing("not mounted", cost, &advice);
    };
    let at = tree.mount.display();
    match &tree.agent.access {
        Access::Writable if tree.agent.exists => {
            check.ok(format!("{at}, with the agent's cgroup"))
        }
        Access::Writable => check.ok(format!("{at}; the agent would create its own")),
        Access::ReadOnly => check.missing(
            format!("{at} is read-only"),
            cost,
            "remount it read-write; in a container, give it a writable cgroup namespace",
        ),
        Access::NotADirectory => check.missing(
            format!("{} is no cgroup", tree.agent.nearest.display()),
            cost,
            "choose another name with HOTLB_CGROUP",
        ),
        Access::Denied(reason) => check.refused(
            rights,
            &format!("{at}: {reason}"),
            cost,
            "let root write to it",
        ),
    }
}

fn kill_and_freeze(tree: &Cgroup2, kernel: &Kernel) -> [Finding; 2] {
    let files = tree.files.as_ref();
    let kill = Control {
        file: "cgroup.kill",
        since: (5, 14),
        cost: "a generation's processes are killed one by one, and one that forks quickly may escape",
        advice: "use Linux 5.14 or later",
    };
    let freeze = Control {
        file: "cgroup.freeze",
        since: (5, 2),
        cost: "a drained generation cannot be frozen while it is kept for a rollback",
        advice: "use Linux 5.2 or later",
    };
    let at = files.map_or(&tree.mount, |files| &files.cgroup);
    [
        kill.judge(at, files.map(|files| files.kill), kernel),
        freeze.judge(at, files.map(|files| files.freeze), kernel),
    ]
}

/// A file that cgroups have since some kernel.
struct Control {
    file: &'static str,
    since: (u8, u8),
    cost: &'static str,
    advice: &'static str,
}

impl Control {
    fn judge(&self, at: &Path, there: Option<bool>, kernel: &Kernel) -> Finding {
        let check = Check::optional(self.file, at.join(self.file).display().to_string());
        let (major, minor) = self.since;
        let (has, found) = match there {
            Some(true) => (true, "there".to_owned()),
            Some(false) => (false, "not there".to_owned()),
            None => (
                kernel.is_at_least(self.since),
                format!("no cgroup to look at; kernels have it since {major}.{minor}"),
            ),
        };
        if has {
            check.ok(found)
        } else {
            check.degraded(found, self.cost, self.advice)
        }
    }
}

fn bpffs(bpffs: &Bpffs, ip_netns: Option<&str>, rights: &Rights) -> Finding {
    let nearest = bpffs.reach.nearest.display().to_string();
    let check = Check::needed("bpffs", bpffs.wanted.display().to_string());
    let cost = "nothing outlives the agent: it does not start";
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
        Access::Writable if bpffs.has_dotted_name() => check.missing(
            "the name has a dot",
            "bpffs takes no names with dots: the agent does not start",
            "set HOTLB_BPFFS_DIR to one without",
        ),
        Access::Writable if bpffs.reach.exists => check.ok("there"),
        Access::Writable => check.ok(format!("would be created by the agent in {nearest}")),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::finding::Verdict, *};

    fn reach(nearest: &str, exists: bool, access: Access) -> Reach {
        Reach {
            nearest: PathBuf::from(nearest),
            exists,
            access,
        }
    }

    fn on(nearest: &str, right_kind: bool, access: Access) -> Bpffs {
        Bpffs {
            wanted: PathBuf::from("/sys/fs/bpf/hotlb"),
            reach: reach(nearest, nearest.ends_with("hotlb"), access),
            right_kind,
            mountable: false,
        }
    }

    fn judge(it: &Bpffs, ip_netns: Option<&str>, rights: &Rights) -> Verdict {
        bpffs(it, ip_netns, rights).verdict
    }

    #[test]
    fn a_bpffs_that_is_there_or_can_be() {
        let root = Rights::all();
        let there = on("/sys/fs/bpf/hotlb", true, Access::Writable);
        let parent = on("/sys/fs/bpf", true, Access::Writable);
        assert_eq!(judge(&there, None, &root), Verdict::Ok);
        assert!(
            bpffs(&parent, None, &root)
                .found
                .contains("would be created")
        );
        let mountable = Bpffs {
            mountable: true,
            ..on("/sys/fs/bpf", false, Access::Writable)
        };
        assert!(
            bpffs(&mountable, None, &root)
                .found
                .contains("would be mounted")
        );
        assert_eq!(judge(&mountable, Some("blue"), &root), Verdict::Degraded);
    }

    #[test]
    fn a_bpffs_that_cannot_be_used() {
        let root = Rights::all();
        let other = on("/sys/fs/bpf", false, Access::Writable);
        let read_only = on("/sys/fs/bpf", true, Access::ReadOnly);
        let dotted = Bpffs {
            wanted: PathBuf::from("/sys/fs/bpf/a.b"),
            ..on("/sys/fs/bpf", true, Access::Writable)
        };
        for bpffs in [&other, &read_only, &dotted] {
            assert_eq!(judge(bpffs, None, &root), Verdict::Missing, "{bpffs:?}");
        }
        let hidden = on("/sys/fs/bpf/hotlb", false, Access::Denied("no".to_owned()));
        assert_eq!(
            judge(&hidden, None, &Rights::of_nobody()),
            Verdict::Unchecked
        );
        assert_eq!(judge(&other, None, &Rights::of_nobody()), Verdict::Missing);
    }

    #[test]
    fn below_ip_netns_exec_the_way_out_is_said() {
        let mounts = Mounts {
            ip_netns: Some("blue".to_owned()),
            cgroup2: None,
            bpffs: on("/sys/fs", false, Access::Writable),
        };
        let found = check(&mounts, &Kernel::of_version((6, 1)), &Rights::all());
        let said = |finding: &Finding| {
            let advice = finding.advice.as_deref().unwrap_or_default();
            advice.contains("nsenter --net=/run/netns/blue")
        };
        assert_eq!(found.iter().filter(|&finding| said(finding)).count(), 2);
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn without_a_cgroup_the_kernels_number_counts() {
        let tree = |files: Option<(bool, bool)>| Cgroup2 {
            mount: PathBuf::from("/sys/fs/cgroup"),
            agent: reach("/sys/fs/cgroup", false, Access::Writable),
            files: files.map(|(kill, freeze)| Files {
                cgroup: PathBuf::from("/sys/fs/cgroup/x"),
                kill,
                freeze,
            }),
        };
        let verdicts = |files, version| {
            kill_and_freeze(&tree(files), &Kernel::of_version(version))
                .map(|finding| finding.verdict)
        };
        assert_eq!(verdicts(None, (5, 14)), [Verdict::Ok, Verdict::Ok]);
        assert_eq!(verdicts(None, (5, 10)), [Verdict::Degraded, Verdict::Ok]);
        assert_eq!(
            verdicts(Some((true, false)), (6, 1)),
            [Verdict::Ok, Verdict::Degraded]
        );
    }

    #[test]
    fn a_read_only_tree_is_missing() {
        let tree = |access| Mounts {
            ip_netns: None,
            cgroup2: Some(Cgroup2 {
                mount: PathBuf::from("/sys/fs/cgroup"),
                agent: reach("/sys/fs/cgroup", false, access),
                files: None,
            }),
            bpffs: on("/sys/fs/bpf", true, Access::Writable),
        };
        let denied = tree(Access::Denied("no".to_owned()));
        assert_eq!(
            cgroup2(&tree(Access::ReadOnly), &Rights::all()).verdict,
            Verdict::Missing
        );
        assert_eq!(cgroup2(&denied, &Rights::all()).verdict, Verdict::Missing);
        assert_eq!(
            cgroup2(&denied, &Rights::of_nobody()).verdict,
            Verdict::Unchecked
        );
    }
}
