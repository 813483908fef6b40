//! The agent's own life: places, lock, services, end.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{FileExt as _, MetadataExt as _},
    },
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use tokio::{
    runtime::Handle,
    sync::{RwLock, Semaphore},
};

use super::{
    error::{StartError, VerbError},
    footing,
    ground::{STATE, is_still_at, lock_dir, lock_file, make_dir, make_runtime, place},
    outputs,
    quiesce::{Services, tend},
    service::Service,
};
use crate::{
    api::wire::{Status, VERSION},
    clock,
    config::{METRICS_EXPIRE, Places, ServiceConfig},
    datapath::{Batch, Former, STAGING, give_up_shared},
    generation::output::{Logger, dropped},
    store::{Journal, journal::JournalError},
    sys::{cgroup::Cgroup, mounts, privilege, supervisor},
};

/// What an agent holds while it runs: the locks of its directories, and its cgroup.
#[derive(Debug)]
pub struct Host {
    places: Places,
    pub(super) cgroup: Cgroup,
    /// Takes servers' outputs to their files.
    logger: Logger,
    /// Of the runtime directory (in a file that says whose it is), the state directory and the
    /// pins. A lock belongs to the open file, and so to everybody who has a copy of its
    /// descriptor; it ends with the last copy. None is ever unlocked.
    locks: Mutex<[Arc<File>; LOCKS]>,
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
    pub(super) services: Arc<RwLock<Services>>,
    /// How long the metrics show a generation that has ended.
    pub(super) expire: Duration,
}

/// Longest time to open one service.
const OPENING: Duration = Duration::from_secs(15);

/// Services that are opened, or looked at, at the same time.
const AT_ONCE: usize = 8;

impl Host {
    /// Checks what the agent may do, makes its places, takes its lock.
    ///
    /// # Errors
    ///
    /// [`StartError::Locked`] when another agent has them; nothing is changed then.
    pub fn prepare(places: Places) -> Result<Self, StartError> {
        check_capabilities()?;
        if let Some(path) = places.not_text() {
            return Err(StartError::NotText(path.to_owned()));
        }
        if let Some(path) = places.not_absolute() {
            return Err(StartError::NotAbsolute(path.to_owned()));
        }
        if !places.is_cgroup_below() {
            return Err(StartError::NotBelow(places.cgroup));
        }
        make_runtime(&places)?;
        let lock = lock_file(&places.lock())?;
        make_dir(&places.state, STATE)?;
        let state = lock_dir(&places.state)?;
        let root = mounts::cgroup2()?;
        mounts::bpffs_dir(&places.bpffs)?;
        let pins = lock_dir(&places.bpffs)?;
        let path = root.join(&places.cgroup);
        let cgroup = Cgroup::create(path.clone()).map_err(place(&path))?;
        Ok(Self {
            logger: logger(&places, &cgroup),
            places,
            cgroup,
            locks: Mutex::new([lock, state, pins].map(Arc::new)),
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
                let other = io::Error::other("the inherited lock belongs to another file");
                return Err(place(path)(other));
            }
        }
        let path = mounts::cgroup2()?.join(&places.cgroup);
        let cgroup = Cgroup::create(path.clone()).map_err(place(&path))?;
        Ok(Self {
            logger: logger(&places, &cgroup),
            places,
            cgroup,
            locks: Mutex::new(locks.map(Arc::new)),
        })
    }

    /// The locks, to be handed over.
    pub fn locks(&self) -> [Arc<File>; LOCKS] {
        let locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.each_ref().map(Arc::clone)
    }

    /// Makes the directories again that are gone, and locks what is there now. Says which were.
    ///
    /// # Errors
    ///
    /// When one cannot be made, or somebody else has it by now.
    pub(super) fn stand_again(&self) -> Result<Vec<&Path>, StartError> {
        let places = &self.places;
        let runtime = places.lock();
        let wanted = [&runtime, &places.state, &places.bpffs];
        let mut gone = Vec::new();
        for (index, (lock, path)) in self.locks().iter().zip(wanted).enumerate() {
            if is_still_at(lock, path) {
                continue;
            }
            let again = if index == 0 {
                make_runtime(places).and_then(|()| lock_file(path))
            } else {
                let made = match index {
                    1 => make_dir(path, STATE),
                    _ => mounts::bpffs_dir(path).map_err(StartError::from),
                };
                made.and_then(|()| lock_dir(path))
            }?;
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(lock) = locks.get_mut(index) {
                *lock = Arc::new(again);
            }
            gone.push(path.as_path());
        }
        if !gone.is_empty() {
            self.sign();
        }
        let known = [places.runtime.as_path(), &places.state, &places.bpffs];
        let known = known.into_iter();
        Ok(known
            .filter(|dir| gone.iter().any(|path| path.starts_with(dir)))
            .collect())
    }

    /// Writes into the lock file whose the locks are: this process's.
    pub fn sign(&self) {
        let [lock, ..] = self.locks();
        let text = format!("{}\n", std::process::id());
        let signed = lock
            .write_all_at(text.as_bytes(), 0)
            .and_then(|()| lock.set_len(text.len() as u64));
        if let Err(error) = signed {
            // Only messages suffer.
            tracing::warn!(%error, "failed to write the pid to the lock file");
        }
    }

    /// The places.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// The process that takes servers' outputs to their files.
    pub(super) fn logger(&self) -> &Logger {
        &self.logger
    }
}

/// No service has such a name as its cgroup.
fn logger(places: &Places, cgroup: &Cgroup) -> Logger {
    Logger::new(places.outputs(), cgroup.child("_logger"))
}

impl Agent {
    /// The same agent, whose generations are shown for `expire` after they have ended.
    #[must_use]
    pub fn expiring(self, expire: Duration) -> Self {
        Self { expire, ..self }
    }

    /// Opens the services. Clients can connect to all of them when it returns.
    pub async fn start(
        host: Host,
        journal: Journal,
        configs: Vec<ServiceConfig>,
    ) -> Result<Self, StartError> {
        Self::start_telling(host, journal, configs, Former::Renewed, |_service| {}).await
    }

    /// As [`Agent::start`], and tells of each service before it is opened. What a former agent left is
    /// brought to the present, or kept for now.
    pub async fn start_telling(
        host: Host,
        journal: Journal,
        configs: Vec<ServiceConfig>,
        former: Former,
        mut opening: impl FnMut(&str) + Send,
    ) -> Result<Self, StartError> {
        let mut services = Services::default();
        for opened in open_all(&host, &journal, &configs, former, &mut opening).await? {
            services.insert(Arc::clone(&opened), tend(opened));
        }
        host.sign();
        Ok(Self {
            host,
            journal,
            configs,
            services: Arc::new(RwLock::new(services)),
            expire: METRICS_EXPIRE,
        })
    }

    /// Its places.
    pub fn places(&self) -> &Places {
        &self.host.places
    }

    /// No former agent needs the journal any more as it was found.
    ///
    /// # Errors
    ///
    /// When it has to be migrated, and cannot be for now.
    pub(crate) async fn take_charge_of_journal(&self) -> Result<(), JournalError> {
        self.journal.take_charge().await
    }

    /// The rollouts.
    pub(super) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Its locks, to be handed over.
    pub fn locks(&self) -> [Arc<File>; LOCKS] {
        self.host.locks()
    }

    /// The service of this name; with an empty name the only one there is.
    pub async fn service(&self, name: &str) -> Result<Arc<Service>, VerbError> {
        named(&self.services.read().await.all(), name)
    }

    /// Everything it knows of `all` services.
    pub(super) async fn status_of(&self, all: BTreeMap<String, Arc<Service>>) -> Status {
        let asked = clock::now();
        let warnings = self.warnings(&all).await;
        let dropped = dropped(&self.host.places.outputs().dropped());
        // Each may wait for a disk.
        let look = |service: Arc<Service>| async move { service.status(asked).await };
        let looks = stream::iter(all.into_values().map(look));
        let mut services: Vec<_> = looks.buffered(AT_ONCE).collect().await;
        for status in &mut services {
            outputs::warn(status, &self.host.places, &dropped);
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
        warnings.extend(footing::warnings());
        warnings.extend(self.journal.check().await.map(|trouble| {
            format!(
                "the journal cannot be written: {trouble}; new rollouts are refused, traffic is \
                 not affected, a rollback to a running generation works"
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
            // Names with a dot are the kernel's own, at the root of a bpffs.
            .filter(|name| !name.contains('.') && !name.starts_with(STAGING))
            .filter(|name| !services.contains_key(name))
            .map(|name| {
                format!(
                    "service {name} is no longer configured but still runs, unmanaged; configure \
                     it again, and run `hotlb down` if it is to end"
                )
            })
            .collect()
    }

    /// Waits until the next agent would know of all that was done.
    pub async fn record(&self) {
        let all = self.services.read().await.all();
        futures_util::future::join_all(all.values().map(|service| service.log_unrecorded())).await;
    }

    /// Ends every generation, closes the parking listeners, removes pins, ledgers and cgroups.
    pub async fn down(&self) -> Result<Vec<String>, VerbError> {
        let mut left = Vec::new();
        let all = self.services.read().await.all();
        // Side by side: each may wait for its clients as long as its deadline.
        let ended = futures_util::future::join_all(all.values().map(|service| service.down()));
        for of_service in ended.await {
            left.extend(of_service?);
        }
        if let Err(error) = self.host.logger.end().await {
            tracing::warn!(%error, "failed to end the logger");
        }
        if let Err(error) = self.host.cgroup.remove() {
            tracing::warn!(%error, "failed to remove the agent's cgroup");
        }
        give_up_shared(&self.host.places.bpffs);
        // Others may share the directory's parent; it goes only when it is empty.
        let _shared = fs::remove_dir(&self.host.places.bpffs);
        Ok(left)
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
    former: Former,
    opening: &mut (impl FnMut(&str) + Send),
) -> Result<Vec<Arc<Service>>, StartError> {
    let mut opening = |name: &str| {
        opening(name);
        supervisor::still_starting(OPENING);
    };
    let opened = open_each(host, journal, configs, former, &mut opening).await;
    opened.into_iter().collect()
}

/// Opens services, several at a time; what became of each.
pub(super) async fn open_each(
    host: &Host,
    journal: &Journal,
    configs: &[ServiceConfig],
    former: Former,
    opening: &mut (impl FnMut(&str) + Send),
) -> Vec<Result<Arc<Service>, StartError>> {
    let _batch = Batch::begin();
    let runtime = Handle::current();
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = Vec::with_capacity(configs.len());
    for config in configs {
        // It is never closed.
        let permit = Arc::clone(&room).acquire_owned().await.ok();
        opening(&config.name);
        let (config, places) = (config.clone(), host.places.clone());
        let (journal, cgroup) = (journal.clone(), host.cgroup.clone());
        let runtime = runtime.clone();
        tasks.push(tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let service = config.name.clone();
            let opened = runtime.block_on(Service::open(config, places, &journal, &cgroup, former));
            opened.map_err(|source| StartError::Service { service, source })
        }));
    }
    let mut opened = Vec::with_capacity(tasks.len());
    for task in tasks {
        opened.push(
            task.await
                .unwrap_or_else(|panicked| Err(StartError::Opening(panicked))),
        );
    }
    opened
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
