//! Cgroups of version 1. hotlb makes none: a generation has one only from its supervisor.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use procfs::process::Process;

/// The hierarchies of version 1, and the agent's own cgroups there.
#[derive(Debug)]
pub(super) struct Legacy {
    agents: String,
}

impl Legacy {
    /// As the agent is now.
    pub(super) fn now() -> Self {
        Self {
            agents: fs::read_to_string("/proc/self/cgroup").unwrap_or_default(),
        }
    }

    /// The cgroup with this controller that holds exactly these processes. One that holds others
    /// too (the agent, other generations) says nothing of this generation.
    pub(super) fn own(&self, controller: &str, pids: &[u32]) -> Option<PathBuf> {
        let mount = mounts().iter().find(|mount| mount.has(controller))?;
        let first = *pids.first()?;
        let lines = fs::read_to_string(format!("/proc/{first}/cgroup")).ok()?;
        let path = path_in(&lines, controller)?;
        // Most are in the agent's: what a process starts is where it is itself.
        if path_in(&self.agents, controller) == Some(path) {
            return None;
        }
        let directory = mount.point.join(path.trim_start_matches('/'));
        (members(&directory)? == pids.iter().copied().collect()).then_some(directory)
    }
}

/// A hierarchy of version 1.
#[derive(Debug)]
struct Mount {
    point: PathBuf,
    controllers: Vec<String>,
}

impl Mount {
    fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }
}

/// The hierarchies of version 1. They are mounted when the host starts.
fn mounts() -> &'static [Mount] {
    static MOUNTS: OnceLock<Vec<Mount>> = OnceLock::new();
    MOUNTS.get_or_init(|| {
        let mounts = Process::myself().and_then(|myself| myself.mountinfo());
        let mounts = mounts.map(|mounts| mounts.0).unwrap_or_default();
        let whole = mounts
            .into_iter()
            .filter(|mount| mount.fs_type == "cgroup" && mount.root == "/");
        whole
            .map(|mount| Mount {
                point: mount.mount_point,
                controllers: mount.super_options.into_keys().collect(),
            })
            .collect()
    })
}

/// The path in the hierarchy with `controller`, by the lines of /proc/PID/cgroup.
fn path_in<'a>(lines: &'a str, controller: &str) -> Option<&'a str> {
    lines.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let mut controllers = fields.next()?.split(',');
        let path = fields.next()?;
        controllers.any(|name| name == controller).then_some(path)
    })
}

fn members(directory: &Path) -> Option<BTreeSet<u32>> {
    let list = fs::read_to_string(directory.join("cgroup.procs")).ok()?;
    Some(list.lines().filter_map(|pid| pid.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_with_other_processes_is_not_a_generations_own() {
        let legacy = Legacy::now();
        assert_eq!(legacy.own("memory", &[]), None);
        assert_eq!(
            legacy.own("no such controller", &[std::process::id()]),
            None
        );
        // This process is the agent here.
        assert_eq!(legacy.own("memory", &[std::process::id()]), None);
        let elsewhere = Legacy {
            agents: String::new(),
        };
        let alone = elsewhere.own("memory", &[std::process::id()]);
        let members = alone.as_deref().and_then(members);
        assert!(members.is_none_or(|members| members.len() == 1));
    }

    #[test]
    fn a_path_is_found_by_its_controller() {
        let lines = "4:memory:/a\n3:cpu,cpuacct:/b:c\n0::/d\n";
        assert_eq!(path_in(lines, "cpuacct"), Some("/b:c"));
        assert_eq!(path_in(lines, "memory"), Some("/a"));
        assert_eq!(path_in(lines, "pids"), None);
    }
}
