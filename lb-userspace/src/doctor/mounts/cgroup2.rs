//! The cgroup v2 tree.

use std::{
    fs,
    path::{Path, PathBuf},
};

use procfs::process::Process;

use super::nsenter;
use crate::{
    config::Places,
    doctor::{
        finding::{Check, Finding},
        kernel::Kernel,
        rights::Rights,
    },
    sys::{
        mounts,
        reach::{self, Access, Reach},
    },
};

/// The cgroup v2 tree and the agent's place in it.
#[derive(Clone, Debug)]
pub(super) struct Cgroup2 {
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

impl Cgroup2 {
    /// Looks; `None` if no tree is to be seen.
    pub(super) fn gather(places: &Places) -> Option<Self> {
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

/// The verdicts.
pub(super) fn check(
    tree: Option<&Cgroup2>,
    ip_netns: Option<&str>,
    kernel: &Kernel,
    rights: &Rights,
) -> Vec<Finding> {
    let mut findings = vec![mounted(tree, ip_netns, rights)];
    if let Some(tree) = tree {
        findings.extend(kill_and_freeze(tree, kernel));
    }
    findings
}

fn mounted(tree: Option<&Cgroup2>, ip_netns: Option<&str>, rights: &Rights) -> Finding {
    let check = Check::needed("cgroup2", "/proc/self/mountinfo");
    let cost = "generations cannot be told apart, started or killed: the agent does not start";
    let Some(tree) = tree else {
        let advice = ip_netns.map_or_else(
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
        Access::Writable if tree.agent.exists => check.ok(format!("{at}, with the agent's cgroup")),
        Access::Writable => check.ok(format!("{at}; the agent would create its own")),
        Access::ReadOnly => check.missing(
            format!("{at} is read-only"),
            cost,
            "remount it read-write; in a container, give it a writable cgroup namespace",
        ),
        Access::NotADirectory => check.missing(
            format!("{} is not a cgroup", tree.agent.nearest.display()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Verdict;

    fn tree(access: Access, files: Option<(bool, bool)>) -> Cgroup2 {
        Cgroup2 {
            mount: PathBuf::from("/sys/fs/cgroup"),
            agent: Reach {
                nearest: PathBuf::from("/sys/fs/cgroup"),
                exists: false,
                access,
            },
            files: files.map(|(kill, freeze)| Files {
                cgroup: PathBuf::from("/sys/fs/cgroup/x"),
                kill,
                freeze,
            }),
        }
    }

    #[test]
    fn without_a_cgroup_the_kernels_number_counts() {
        let verdicts = |files, version| {
            let tree = tree(Access::Writable, files);
            kill_and_freeze(&tree, &Kernel::of_version(version)).map(|finding| finding.verdict)
        };
        assert_eq!(verdicts(None, (5, 14)), [Verdict::Ok, Verdict::Ok]);
        assert_eq!(verdicts(None, (5, 10)), [Verdict::Degraded, Verdict::Ok]);
        let no_freeze = verdicts(Some((true, false)), (6, 1));
        assert_eq!(no_freeze, [Verdict::Ok, Verdict::Degraded]);
    }

    #[test]
    fn a_tree_that_cannot_be_used() {
        let verdict = |access, rights| mounted(Some(&tree(access, None)), None, rights).verdict;
        let (root, nobody) = (Rights::all(), Rights::of_nobody());
        let denied = Access::Denied("no".to_owned());
        assert_eq!(verdict(Access::Writable, &root), Verdict::Ok);
        assert_eq!(verdict(Access::ReadOnly, &nobody), Verdict::Missing);
        assert_eq!(verdict(denied.clone(), &root), Verdict::Missing);
        assert_eq!(verdict(denied, &nobody), Verdict::Unchecked);
        assert_eq!(mounted(None, None, &nobody).verdict, Verdict::Missing);
    }
}
