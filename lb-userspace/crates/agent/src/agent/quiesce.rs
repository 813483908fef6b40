//! Who acts on the services: this agent, nobody for a moment, or a successor.
//!
//! Everything an agent does to a service happens under the lock of the service's registry, but for
//! what looks after it, which can be halted. Whoever has both has the service in custody: no task
//! of this process acts on it, whatever it waits for.

use std::{collections::BTreeMap, fs, sync::Arc, time::Duration};

use tokio::{sync::RwLockWriteGuard, task::JoinHandle, time::timeout};

use super::{
    UpgradeError,
    service::{QuiescedService, Service},
    start::{self, Agent},
};
use crate::{
    datapath::{self, Former, Pins, STAGING},
    generation::keeper::Keeper,
    store::Ledger,
};

/// The services of an agent.
#[derive(Debug, Default)]
pub(super) struct Services {
    open: BTreeMap<String, Open>,
    is_a_successors: bool,
}

#[derive(Debug)]
struct Open {
    service: Arc<Service>,
    /// The task that looks after it; it ends when the service is halted.
    tending: JoinHandle<()>,
}

impl Services {
    /// Adds a service that `tending` looks after.
    pub(super) fn insert(&mut self, service: Arc<Service>, tending: JoinHandle<()>) {
        let name = service.name().to_owned();
        self.open.insert(name, Open { service, tending });
    }

    /// All of them, by name.
    pub(super) fn all(&self) -> BTreeMap<String, Arc<Service>> {
        let open = self.open.iter();
        open.map(|(name, open)| (name.clone(), Arc::clone(&open.service)))
            .collect()
    }

    /// Whether another process has them.
    pub(super) fn is_a_successors(&self) -> bool {
        self.is_a_successors
    }
}

/// Looks after a service until it is halted.
pub(super) fn tend(service: Arc<Service>) -> JoinHandle<()> {
    tokio::spawn(service.look_after())
}

/// The services while nobody in this process acts on them, and nobody looks at them.
#[derive(Debug)]
pub struct Quiesced<'a> {
    agent: &'a Agent,
    services: RwLockWriteGuard<'a, Services>,
    held: Vec<QuiescedService>,
    /// The services that had pins.
    pinned: Vec<String>,
}

/// How long whoever looks, or does something that takes moments, may take to finish.
const MOMENTS: Duration = Duration::from_secs(10);

impl Agent {
    /// Takes the services into custody. What is known of them is written down then.
    ///
    /// # Errors
    ///
    /// When a rollout is under way that a successor cannot go on with, something cannot be written,
    /// or somebody does not let go: everything is as before then.
    pub async fn quiesce(&self) -> Result<Quiesced<'_>, UpgradeError> {
        let looked = timeout(MOMENTS, self.services.write()).await;
        let services =
            looked.map_err(|_elapsed| UpgradeError::NotHeld("status is being read".to_owned()))?;
        let mut quiesced = Quiesced {
            agent: self,
            services,
            held: Vec::new(),
            pinned: self.pinned(),
        };
        match timeout(MOMENTS, quiesced.hold()).await {
            Ok(Ok(())) => Ok(quiesced),
            Ok(Err(error)) => {
                quiesced.release();
                Err(error)
            }
            Err(_elapsed) => {
                quiesced.release();
                Err(UpgradeError::NotHeld("a service is busy".to_owned()))
            }
        }
    }

    /// Refuses while a rollout is under way that a successor cannot go on with.
    ///
    /// # Errors
    ///
    /// [`UpgradeError::Busy`].
    pub async fn refuse_busy(&self) -> Result<(), UpgradeError> {
        let all = self.services.read().await.all();
        for service in all.values() {
            service.quiescing().refuse_busy().await?;
        }
        Ok(())
    }

    /// Whether the present programs could take the place of a former agent's.
    pub(crate) async fn awaits_renewal(&self) -> bool {
        let all = self.services.read().await.all();
        all.values().any(|service| service.awaits_renewal())
    }

    /// Services that have pins, configured or not.
    fn pinned(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(&self.places().bpffs) else {
            return Vec::new();
        };
        entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| !name.starts_with(STAGING))
            .collect()
    }
}

impl Quiesced<'_> {
    async fn hold(&mut self) -> Result<(), UpgradeError> {
        for open in self.services.open.values_mut() {
            open.service.quiescing().halt();
            // It ends by itself, or has ended: it does not matter how.
            let _ended = (&mut open.tending).await;
            self.held.push(open.service.quiescing().hold().await?);
        }
        // Nobody writes any more; the successor opens the file for itself.
        let closed = self.agent.journal.close().await;
        closed.map_err(|error| UpgradeError::NotHeld(error.to_string()))
    }

    /// Nothing was changed meanwhile: this agent goes on.
    pub fn release(mut self) {
        self.held.clear();
        for open in self.services.open.values_mut() {
            open.service.quiescing().resume();
            if open.tending.is_finished() {
                open.tending = tend(Arc::clone(&open.service));
            }
        }
    }

    /// The services are a successor's, for good.
    pub fn give_up(mut self) {
        self.services.is_a_successors = true;
        // What is held a second time would keep programs attached that the successor replaces.
        datapath::forget_all();
        for held in self.held.drain(..) {
            held.for_ever();
        }
    }

    /// A successor had the services, and is dead: opens them again as after any dead agent, and
    /// removes what it made beside them.
    pub async fn take_up(mut self) {
        self.agent.host.sign();
        datapath::forget_all();
        for name in self.agent.pinned() {
            let is_known = self.pinned.contains(&name) || self.services.open.contains_key(&name);
            if !is_known {
                self.remove(&name).await;
            }
        }
        self.open_again(|_| true).await;
    }

    /// Opens the services again that await it, as after a dead agent, so that what a former agent
    /// left is brought to the present programs.
    pub async fn renew(mut self) {
        self.open_again(Service::awaits_renewal).await;
    }

    async fn open_again(&mut self, wanted: impl Fn(&Service) -> bool) {
        // In the order of the names, as they were held.
        let held = std::mem::take(&mut self.held);
        let (mut again, mut configs) = (Vec::new(), Vec::new());
        let mut others = Vec::new();
        for (held, open) in held.into_iter().zip(self.services.open.values()) {
            let service = Arc::clone(&open.service);
            let config = self.agent.configs.iter().find(|c| c.name == service.name());
            match config.filter(|_| wanted(&service)) {
                Some(config) => {
                    configs.push(config.clone());
                    again.push((held, service));
                }
                None => others.push((held, service)),
            }
        }
        let (host, journal) = (&self.agent.host, &self.agent.journal);
        let opened = start::open_each(host, journal, &configs, Former::Renewed, &mut |_| {}).await;
        for ((held, former), opened) in again.into_iter().zip(opened) {
            match opened {
                Ok(opened) => {
                    // Its tasks wait for what they will never get.
                    held.for_ever();
                    self.services.insert(Arc::clone(&opened), tend(opened));
                }
                Err(error) => {
                    tracing::error!(
                        service = former.name(),
                        %error,
                        "failed to reopen the service; it continues unchanged"
                    );
                    former.stays_as_it_is(error.to_string());
                    others.push((held, former));
                }
            }
        }
        for (held, service) in others {
            drop(held);
            service.quiescing().resume();
            self.services.insert(Arc::clone(&service), tend(service));
        }
    }

    /// Removes a service that a successor opened and nobody used yet.
    async fn remove(&self, name: &str) {
        tracing::warn!(
            service = name,
            "removing the service that a dead successor created"
        );
        let places = self.agent.places();
        if let Ok(keeper) = Keeper::find(&places.keeper(name)).await {
            // It ends without an answer too.
            let _gone = keeper.quit().await;
        }
        let pins = Pins::new(&places.bpffs, name);
        if let Err(error) = pins.leave_shared().and_then(|()| pins.remove()) {
            tracing::warn!(service = name, %error, "failed to remove BPF pins");
        }
        if let Err(error) = Ledger::remove(&places.ledger(name)) {
            tracing::warn!(service = name, %error, "failed to remove the ledger of a dead successor's service");
        }
        if let Err(error) = self.agent.host.cgroup.child(name).remove() {
            tracing::warn!(service = name, %error, "failed to remove the cgroup of a dead successor's service");
        }
    }
}
