//! Where an agent keeps its things. Every place can be moved, so that agents run side by side.

use std::{
    env,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// The directories and names of one agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Places {
    /// Socket, lock, keepers' sockets. `HOTLB_RUNTIME_DIR`, else `/run/hotlb`.
    pub runtime: PathBuf,
    /// Journal, ledgers and servers' output. `HOTLB_STATE_DIR`, else `/var/lib/hotlb`.
    pub state: PathBuf,
    /// Pins. `HOTLB_BPFFS_DIR`, else `/sys/fs/bpf/hotlb`.
    pub bpffs: PathBuf,
    /// Name of the agent's cgroup below the cgroup2 mount. `HOTLB_CGROUP`; else `hotlb`, or
    /// `hotlb-<hash>` when the runtime directory is not the usual one.
    pub cgroup: String,
    /// The configuration. `HOTLB_CONFIG`, else `/etc/hotlb/hotlb.toml`.
    pub config: PathBuf,
}

const RUNTIME: &str = "/run/hotlb";

impl Places {
    /// The places the environment names.
    pub fn from_env() -> Self {
        let dir = |name: &str, usual: &str| {
            env::var_os(name)
                .filter(|value| !value.is_empty())
                .map_or_else(|| PathBuf::from(usual), PathBuf::from)
        };
        let runtime = dir("HOTLB_RUNTIME_DIR", RUNTIME);
        Self {
            cgroup: env::var("HOTLB_CGROUP")
                .ok()
                .filter(|name| !name.is_empty())
                .unwrap_or_else(|| cgroup_name(&runtime)),
            state: dir("HOTLB_STATE_DIR", "/var/lib/hotlb"),
            bpffs: dir("HOTLB_BPFFS_DIR", "/sys/fs/bpf/hotlb"),
            config: dir("HOTLB_CONFIG", "/etc/hotlb/hotlb.toml"),
            runtime,
        }
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.runtime.join("api.sock")
    }

    /// The lock that keeps a second agent away.
    pub fn lock(&self) -> PathBuf {
        self.runtime.join("agent.lock")
    }

    /// The socket of a service's keeper.
    pub fn keeper(&self, service: &str) -> PathBuf {
        self.runtime.join(format!("{service}.keeper"))
    }

    /// The socket a generation notifies.
    pub fn notify(&self, service: &str, id: u32) -> PathBuf {
        self.runtime.join(format!("{service}.{id}.notify"))
    }

    /// What is remembered of a service.
    pub fn ledger(&self, service: &str) -> PathBuf {
        self.state.join(format!("{service}.json"))
    }

    /// The rollouts: what they are about to do, and what they did.
    pub fn journal(&self) -> PathBuf {
        self.state.join("hotlb.db")
    }

    /// What a generation's processes write to stdout and stderr.
    pub fn output(&self, service: &str, generation: &str) -> PathBuf {
        self.state
            .join("output")
            .join(service)
            .join(format!("{generation}.log"))
    }
}

/// Differs with the runtime directory, so that moving that one is enough to be apart.
fn cgroup_name(runtime: &Path) -> String {
    if runtime == Path::new(RUNTIME) {
        return "hotlb".to_owned();
    }
    let mut hasher = DefaultHasher::new();
    runtime.hash(&mut hasher);
    format!("hotlb-{:08x}", hasher.finish() >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_runtime_directory_is_another_cgroup() {
        assert_eq!(cgroup_name(Path::new("/run/hotlb")), "hotlb");
        let a = cgroup_name(Path::new("/tmp/a"));
        assert_eq!(a, cgroup_name(Path::new("/tmp/a")));
        assert_ne!(a, cgroup_name(Path::new("/tmp/b")));
    }
}
