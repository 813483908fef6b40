//! The agent's own life: places, lock, services, end.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::fs::{
            FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown,
        },
    },
    path::Path,
    sync::Arc,
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};
use tokio::{
    runtime::Handle,
    sync::{RwLock, Semaphore},
};

use super::{
    custody::{Services, tend},
    error::{StartError, VerbError},
    service::Service,
};
use crate::{
    api::wire::{Status, VERSION},
    clock,
    config::{METRICS_EXPIRE, Places, ServiceConfig},
    datapath::{Batch, STAGING, give_up_shared},
    store::Journal,
    sys::{cgroup::Cgroup, mounts, privilege, supervisor, users},
};

/// What an agent holds while it runs: the locks of its directories, and its cgroup.
#[derive(Debug)]
pub struct Host {
    places: Places,
    pub(super) cgroup: Cgroup,
    /// Of the runtime directory (in a file that says whose it is), the state directory and the
    /// pins. A lock belongs to the open file, and so to everybody who has a copy of its
    /// descriptor; it ends with the last copy. None is ever unlocked.
    locks: [File; LOCKS],
}

/// How many locks an agent holds.
pub const LOCKS: usize = 3;

/// An agent.
#[derive(Debug)]
pub struct Agent {
    pub(super) host: Host,
    pub(super) journal: Journal,
    /// What it was configured with.
    pub(super) configs: Vec<ServiceConfig>,
    pub(super) services: RwLock<Services>,
    /// How long the metrics show a generation that has ended.
    pub(super) expire: Duration,
}

/// Longest time to open one service.
const OPENING: Duration = Duration::from_secs(15);

/// Services that are opened at the same time.
const AT_ONCE: usize = 8;

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
        let lock = lock_file(&places.lock())?;
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
            locks: [lock, state, pins],
        })
    }

    /// The host of an agent that gives its `locks` to this one.
    ///
    /// # Errors
    ///
    /// When they are not the locks of these places.
    pub fn inherit(places: Places, locks: [OwnedFd; LOCKS]) -> Result<Self, StartError> {
        check_capabilities()?;
        let locks = locks.map(File::from);
        let held = [&places.lock(), &places.state, &places.bpffs];
        for (lock, path) in locks.iter().zip(held) {
            let there = fs::metadata(path).map_err(place(path))?;
            let given = lock.metadata().map_err(place(path))?;
            if (there.dev(), there.ino()) != (given.dev(), given.ino()) {
                let other = io::Error::other("the lock handed over is of another file");
                return Err(place(path)(other));
            }
        }
        let path = mounts::cgroup2()?.join(&places.cgroup);
        let cgroup = Cgroup::create(path.clone()).map_err(place(&path))?;
        Ok(Self {
            places,
            cgroup,
            locks,
        })
    }

    /// The locks, to be handed over.
    pub fn locks(&self) -> [BorrowedFd<'_>; LOCKS] {
        self.locks.each_ref().map(|lock| lock.as_fd())
    }

    /// Writes into the lock file whose the locks are: this process's.
    pub fn sign(&self) {
        let [lock, ..] = &self.locks;
        let text = format!("{}\n", std::process::id());
        let signed = lock
            .write_all_at(text.as_bytes(), 0)
            .and_then(|()| lock.set_len(text.len() as u64));
        if let Err(error) = signed {
            // Only messages suffer.
            tracing::warn!(%error, "the lock file does not say whose it is");
        }
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
        Self::start_telling(host, journal, configs, |_service| {}).await
    }

    /// As [`Agent::start`], and tells of each service before it is opened.
    pub async fn start_telling(
        host: Host,
        journal: Journal,
        configs: Vec<ServiceConfig>,
        mut opening: impl FnMut(&str) + Send,
    ) -> Result<Self, StartError> {
        let mut services = Services::default();
        for opened in open_all(&host, &journal, &configs, &mut opening).await? {
            services.insert(Arc::clone(&opened), tend(opened));
        }
        host.sign();
        Ok(Self {
            host,
            journal,
            configs,
            services: RwLock::new(services),
            expire: METRICS_EXPIRE,
        })
    }

    /// Its places.
    pub fn places(&self) -> &Places {
        &self.host.places
    }

    /// The rollouts.
    pub(super) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Its locks, to be handed over.
    pub fn locks(&self) -> [BorrowedFd<'_>; LOCKS] {
        self.host.locks()
    }

    /// The service of this name; with an empty name the only one there is.
    pub async fn service(&self, name: &str) -> Result<Arc<Service>, VerbError> {
        named(&self.services.read().await.all(), name)
    }

    /// Everything it knows. While the services are handed over this waits for the outcome; once
    /// they are a successor's, that one is asked.
    pub async fn status(&self) -> Status {
        // Held to the end: a hand-over waits for whoever looks.
        let services = self.services.read().await;
        if let Some(successor) = self.successor(&services)
            && let Ok(status) = successor.status().await
        {
            return status;
        }
        self.own_status(services.all()).await
    }

    async fn own_status(&self, all: BTreeMap<String, Arc<Service>>) -> Status {
        let asked = clock::now();
        let warnings = self.warnings(&all).await;
        let mut services = Vec::new();
        for service in all.values() {
            services.push(service.status(asked).await);
        }
        Status {
            api: VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            warnings,
            services,
        }
    }

    async fn warnings(&self, services: &BTreeMap<String, Arc<Service>>) -> Vec<String> {
        let mut warnings = self.unmanaged(services);
        warnings.extend(self.journal.check().await.map(|trouble| {
            format!(
                "the journal cannot be written: {trouble}; new rollouts are refused, traffic stays \
                 as it is, rollback works"
            )
        }));
        warnings
    }

    /// Services an earlier agent ran that are not configured any more: they serve on, unmanaged.
    fn unmanaged(&self, services: &BTreeMap<String, Arc<Service>>) -> Vec<String> {
        let Ok(pinned) = fs::read_dir(&self.host.places.bpffs) else {
            return Vec::new();
        };
        pinned
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| !services.contains_key(name) && !name.starts_with(STAGING))
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
        let all = self.services.read().await.all();
        for service in all.values() {
            service.down().await?;
        }
        if let Err(error) = self.host.cgroup.remove() {
            tracing::warn!(%error, "the agent's cgroup stays");
        }
        give_up_shared(&self.host.places.bpffs);
        // Others may share the directory's parent; it goes only when it is empty.
        let _shared = fs::remove_dir(&self.host.places.bpffs);
        Ok(())
    }
}

/// The service of this name among `all`; with an empty name the only one there is.
pub(super) fn named(
    all: &BTreeMap<String, Arc<Service>>,
    name: &str,
) -> Result<Arc<Service>, VerbError> {
    let known = || all.keys().cloned().collect::<Vec<_>>();
    if name.is_empty() || name == ONLY {
        let mut services = all.values();
        return match (services.next(), services.next()) {
            (Some(only), None) => Ok(Arc::clone(only)),
            _ => Err(VerbError::WhichService(known())),
        };
    }
    all.get(name)
        .map(Arc::clone)
        .ok_or_else(|| VerbError::UnknownService {
            name: name.escape_debug().to_string(),
            known: known(),
        })
}

/// Opens services, several at a time: most of the time each of them waits for the kernel.
async fn open_all(
    host: &Host,
    journal: &Journal,
    configs: &[ServiceConfig],
    opening: &mut (impl FnMut(&str) + Send),
) -> Result<Vec<Arc<Service>>, StartError> {
    let _batch = Batch::begin();
    let runtime = Handle::current();
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = Vec::with_capacity(configs.len());
    for config in configs {
        // It is never closed.
        let permit = Arc::clone(&room).acquire_owned().await.ok();
        opening(&config.name);
        supervisor::still_starting(OPENING);
        let (config, places) = (config.clone(), host.places.clone());
        let (journal, cgroup) = (journal.clone(), host.cgroup.clone());
        let runtime = runtime.clone();
        tasks.push(tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let service = config.name.clone();
            let opened = runtime.block_on(Service::open(config, places, &journal, &cgroup));
            opened.map_err(|source| StartError::Service { service, source })
        }));
    }
    let mut services = Vec::with_capacity(tasks.len());
    let mut failed = None;
    for task in tasks {
        match task.await {
            Ok(Ok(service)) => services.push(service),
            Ok(Err(error)) => failed = failed.or(Some(error)),
            Err(panicked) => failed = failed.or(Some(StartError::Opening(panicked))),
        }
    }
    failed.map_or(Ok(services), Err)
}

/// Opens one service.
pub(super) async fn open(
    host: &Host,
    journal: &Journal,
    config: ServiceConfig,
) -> Result<Arc<Service>, StartError> {
    let name = config.name.clone();
    let opened = Service::open(config, host.places.clone(), journal, &host.cgroup).await;
    opened.map_err(|source| StartError::Service {
        service: name,
        source,
    })
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

fn lock_file(path: &Path) -> Result<File, StartError> {
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
    let holder = match holder.trim().parse::<u32>() {
        Ok(pid) => format!(" (pid {pid})"),
        Err(_) => String::new(),
    };
    lock(file, path.parent().unwrap_or(path), holder)
}

/// A directory that a second agent must not share: its records or pins would be overwritten.
fn lock_dir(path: &Path) -> Result<File, StartError> {
    let dir = File::open(path).map_err(place(path))?;
    lock(dir, path, String::new())
}

fn lock(file: File, path: &Path, holder: String) -> Result<File, StartError> {
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(_held) => Err(StartError::Locked {
            path: path.to_owned(),
            holder,
        }),
    }
}

fn place(path: &Path) -> impl FnOnce(io::Error) -> StartError {
    let path = path.to_owned();
    move |source| StartError::Place { path, source }
}
