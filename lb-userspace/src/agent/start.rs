//! The agent's own life: places, lock, services, end.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, chown},
    path::Path,
    sync::Arc,
};

use nix::fcntl::{Flock, FlockArg};

use super::{
    error::{StartError, VerbError},
    service::Service,
};
use crate::{
    api::wire::{Status, VERSION},
    config::{Places, ServiceConfig},
    datapath::STAGING,
    store::Journal,
    sys::{cgroup::Cgroup, mounts, privilege, users},
};

/// What an agent holds while it runs: the lock of its runtime directory, and its cgroup.
#[derive(Debug)]
pub struct Host {
    places: Places,
    cgroup: Cgroup,
    _locks: [Flock<File>; 3],
}

/// An agent.
#[derive(Debug)]
pub struct Agent {
    host: Host,
    journal: Journal,
    services: BTreeMap<String, Arc<Service>>,
}

/// The group whose members may read.
pub const GROUP: &str = "hotlb";

impl Host {
    /// Checks what the agent may do, makes its places, takes its lock.
    ///
    /// # Errors
    ///
    /// [`StartError::Locked`] when another agent has them; nothing is changed then.
    pub fn prepare(places: Places) -> Result<Self, StartError> {
        check_capabilities()?;
        // Servers of any user reach their notify socket in it; nobody else can list it.
        make_dir(&places.runtime, 0o751)?;
        if let Some(gid) = users::gid_of(GROUP) {
            chown(&places.runtime, None, Some(gid)).map_err(place(&places.runtime))?;
        }
        let lock = lock(&places.lock())?;
        make_dir(&places.state, 0o750)?;
        let state = lock_dir(&places.state)?;
        let root = mounts::cgroup2()?;
        mounts::bpffs_dir(&places.bpffs)?;
        let pins = lock_dir(&places.bpffs)?;
        let path = root.join(&places.cgroup);
        let cgroup = Cgroup::create(path.clone()).map_err(place(&path))?;
        Ok(Self {
            places,
            cgroup,
            _locks: [lock, state, pins],
        })
    }

    /// The places.
    pub fn places(&self) -> &Places {
        &self.places
    }
}

impl Agent {
    /// Opens the services. Clients can connect to all of them when it returns.
    pub async fn start(
        host: Host,
        journal: Journal,
        configs: Vec<ServiceConfig>,
    ) -> Result<Self, StartError> {
        let mut services = BTreeMap::new();
        for config in configs {
            let name = config.name.clone();
            let opened =
                Service::open(config, host.places.clone(), journal.clone(), &host.cgroup).await;
            let service = opened.map_err(|source| StartError::Service {
                service: name.clone(),
                source,
            })?;
            tokio::spawn({
                let service = Arc::clone(&service);
                async move {
                    let name = service.name().to_owned();
                    if let Err(error) = service.look_after().await {
                        tracing::error!(service = name, %error, "nobody looks after the service");
                    }
                }
            });
            services.insert(name, service);
        }
        Ok(Self {
            host,
            journal,
            services,
        })
    }

    /// Its places.
    pub fn places(&self) -> &Places {
        &self.host.places
    }

    /// The rollouts.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The service of this name; with an empty name the only one there is.
    pub fn service(&self, name: &str) -> Result<&Arc<Service>, VerbError> {
        let known = || self.services.keys().cloned().collect::<Vec<_>>();
        if name.is_empty() || name == ONLY {
            let mut all = self.services.values();
            return match (all.next(), all.next()) {
                (Some(only), None) => Ok(only),
                _ => Err(VerbError::WhichService(known())),
            };
        }
        self.services
            .get(name)
            .ok_or_else(|| VerbError::UnknownService {
                name: name.escape_debug().to_string(),
                known: known(),
            })
    }

    /// Everything it knows.
    pub async fn status(&self) -> Status {
        let mut services = Vec::new();
        for service in self.services.values() {
            services.push(service.status().await);
        }
        Status {
            api: VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            warnings: self.warnings().await,
            services,
        }
    }

    async fn warnings(&self) -> Vec<String> {
        let mut warnings = self.unmanaged();
        warnings.extend(self.journal.check().await.map(|trouble| {
            format!(
                "the journal cannot be written: {trouble}; new rollouts are refused, traffic stays \
                 as it is, rollback works"
            )
        }));
        warnings
    }

    /// Services an earlier agent ran that are not configured any more: they serve on, unmanaged.
    fn unmanaged(&self) -> Vec<String> {
        let Ok(pinned) = fs::read_dir(&self.host.places.bpffs) else {
            return Vec::new();
        };
        pinned
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| !self.services.contains_key(name) && !name.starts_with(STAGING))
            .map(|name| {
                format!(
                    "service {name} is not configured any more, but runs on, unmanaged; configure \
                     it again, or do so and `hotlb down` to end it"
                )
            })
            .collect()
    }

    /// Ends every generation, closes the parking listeners, removes pins, ledgers and cgroups.
    pub async fn down(&self) -> Result<(), VerbError> {
        for service in self.services.values() {
            service.down().await?;
        }
        if let Err(error) = self.host.cgroup.remove() {
            tracing::warn!(%error, "the agent's cgroup stays");
        }
        // Others may share the directory's parent; it goes only when it is empty.
        let _shared = fs::remove_dir(&self.host.places.bpffs);
        Ok(())
    }
}

/// The name in the API that means "the only service there is".
pub const ONLY: &str = "-";

fn check_capabilities() -> Result<(), StartError> {
    let missing: Vec<String> = privilege::lacking()
        .iter()
        .map(ToString::to_string)
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(StartError::NotPermitted(missing.join(", ")))
    }
}

fn make_dir(path: &Path, mode: u32) -> Result<(), StartError> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path).map_err(place(path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(place(path))
}

fn lock(path: &Path) -> Result<Flock<File>, StartError> {
    let mut file = File::options()
        .create(true)
        .mode(0o600)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)
        .map_err(place(path))?;
    let mut holder = String::new();
    // Only for the message.
    let _unreadable = file.read_to_string(&mut holder);
    let mut lock =
        Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_held| StartError::Locked {
            path: path.parent().unwrap_or(path).to_owned(),
            holder: match holder.trim().parse::<u32>() {
                Ok(pid) => format!(" (pid {pid})"),
                Err(_) => String::new(),
            },
        })?;
    lock.set_len(0)
        .and_then(|()| io::Seek::rewind(&mut *lock))
        .and_then(|()| writeln!(lock, "{}", std::process::id()))
        .map_err(place(path))?;
    Ok(lock)
}

/// A directory that a second agent must not share: its records or pins would be overwritten.
fn lock_dir(path: &Path) -> Result<Flock<File>, StartError> {
    let dir = File::open(path).map_err(place(path))?;
    Flock::lock(dir, FlockArg::LockExclusiveNonblock).map_err(|_held| StartError::Locked {
        path: path.to_owned(),
        holder: String::new(),
    })
}

fn place(path: &Path) -> impl FnOnce(io::Error) -> StartError {
    let path = path.to_owned();
    move |source| StartError::Place { path, source }
}
