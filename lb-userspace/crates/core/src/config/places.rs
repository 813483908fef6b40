//! Where an agent keeps its things. Every place can be moved, so that agents run side by side.

use std::{
    env,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    os::unix::ffi::OsStrExt as _,
    path::{Component, Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{ConfigError, OutputPlaces, ServiceConfig};

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
/// How long the path of a unix socket may be, in bytes: the room in its address.
const SOCKET_PATH: usize = 107;

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
            cgroup: env::var_os("HOTLB_CGROUP")
                .filter(|name| !name.is_empty())
                .map_or_else(
                    || cgroup_name(&runtime),
                    |name| name.to_string_lossy().into_owned(),
                ),
            state: dir("HOTLB_STATE_DIR", "/var/lib/hotlb"),
            bpffs: dir("HOTLB_BPFFS_DIR", "/sys/fs/bpf/hotlb"),
            config: dir("HOTLB_CONFIG", "/etc/hotlb/hotlb.toml"),
            runtime,
        }
    }

    /// A directory or file whose name is not UTF-8: answers and hand-overs are JSON, and have no
    /// word for it.
    pub fn not_text(&self) -> Option<&Path> {
        let all = [&self.runtime, &self.state, &self.bpffs, &self.config];
        let bad = all.into_iter().find(|path| path.to_str().is_none());
        bad.map(PathBuf::as_path)
    }

    /// A directory that is named from where the agent was started: keepers and servers have other
    /// current directories.
    pub fn not_absolute(&self) -> Option<&Path> {
        let all = [&self.runtime, &self.state, &self.bpffs];
        let bad = all.into_iter().find(|path| !path.is_absolute());
        bad.map(PathBuf::as_path)
    }

    /// Whether the cgroup is named as something below the mount: a path of names, no way out.
    pub fn is_cgroup_below(&self) -> bool {
        let parts = Path::new(&self.cgroup).components();
        let mut parts = parts.peekable();
        parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
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

    /// Whether the sockets of these services have room in a socket's address, whatever their
    /// generations' ids become.
    ///
    /// # Errors
    ///
    /// [`ConfigError::SocketPath`] of the first that has none.
    pub fn fit_sockets(&self, services: &[ServiceConfig]) -> Result<(), ConfigError> {
        let of_service = |service: &ServiceConfig| {
            let notify = || self.notify(&service.name, u32::MAX);
            [
                Some(self.keeper(&service.name)),
                service.notify.then(notify),
            ]
        };
        let all = services.iter().flat_map(of_service).flatten();
        for path in std::iter::once(self.socket()).chain(all) {
            let length = path.as_os_str().as_bytes().len();
            if length > SOCKET_PATH {
                return Err(ConfigError::SocketPath {
                    path,
                    length,
                    limit: SOCKET_PATH,
                });
            }
        }
        Ok(())
    }

    /// How long the name of a service with `notify = true` may be, in bytes.
    pub fn notified_name(&self) -> usize {
        let without_name = self.notify("", u32::MAX);
        SOCKET_PATH.saturating_sub(without_name.as_os_str().as_bytes().len())
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
        self.outputs().file(service, generation)
    }

    /// What all of them write.
    pub fn outputs(&self) -> OutputPlaces {
        OutputPlaces {
            pipes: self.runtime.join("output"),
            files: self.state.join("output"),
        }
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

    #[test]
    fn the_last_generation_can_reach_its_socket_too() {
        let listen = vec!["0.0.0.0:80".parse().unwrap()];
        let mut service = ServiceConfig::new("web", listen).unwrap();
        let at = |length: usize| {
            let mut places = Places::from_env();
            places.runtime = PathBuf::from(format!("/{}", "r".repeat(length - 1)));
            places
        };
        // "/web.4294967295.notify" is 22 bytes.
        service.notify = true;
        let good = at(85).fit_sockets(std::slice::from_ref(&service));
        assert!(good.is_ok() && at(85).notified_name() == 3);
        let bad = at(86).fit_sockets(std::slice::from_ref(&service));
        let message = bad.unwrap_err().to_string();
        for words in ["/web.4294967295.notify", "108", "107"] {
            assert!(message.contains(words), "{message}");
        }
        service.notify = false;
        // "/web.keeper" is 11 bytes, "/api.sock" 9.
        at(96).fit_sockets(std::slice::from_ref(&service)).unwrap();
        let bad = at(97).fit_sockets(&[service]).unwrap_err().to_string();
        assert!(bad.contains("/web.keeper"), "{bad}");
        assert!(at(98).fit_sockets(&[]).is_ok() && at(99).fit_sockets(&[]).is_err());
        assert_eq!(at(200).notified_name(), 0);
    }
}
