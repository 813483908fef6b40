//! Cgroups of version 1. hotlb makes none: a generation has one only from its supervisor.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use procfs::process::Process;

/// The cgroup of version 1 with this controller that holds exactly these processes. One that holds
/// others too (the agent, other generations) says nothing of this generation.
pub(super) fn own(controller: &str, pids: &[u32]) -> Option<PathBuf> {
    let mount = mounts().iter().find(|mount| mount.has(controller))?;
    let first = *pids.first()?;
    let path = cgroup_of(first, controller)?;
    let directory = mount.point.join(path.trim_start_matches('/'));
    (members(&directory)? == pids.iter().copied().collect()).then_some(directory)
}

/// A hierarchy of version 1.
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

/// The path of a process in the hierarchy with `controller`.
fn cgroup_of(pid: u32, controller: &str) -> Option<String> {
    let lines = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    lines.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let mut controllers = fields.next()?.split(',');
        let path = fields.next()?;
        controllers
            .any(|name| name == controller)
            .then(|| path.to_owned())
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
        // The root of any hierarchy, and the cgroup this test runs in, hold others too.
        assert_eq!(own("memory", &[]), None);
        assert_eq!(own("no such controller", &[std::process::id()]), None);
        let alone = own("memory", &[std::process::id()]);
        let members = alone.as_deref().and_then(members);
        assert!(members.is_none_or(|members| members.len() == 1));
    }
}
