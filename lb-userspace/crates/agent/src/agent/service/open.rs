//! Opening a service: afresh, or as an earlier agent left it.

use std::sync::Arc;

use lb_common::{GenerationId, UNDECLARED_REFUSE, UNDECLARED_REWRITE};
use tokio::sync::watch;

use super::{
    Context, OpenError, Service,
    adopt::Adoptions,
    checks::exec::hooks_cgroup,
    datagrams::Datagrams,
    deploy::Deploys,
    drain::Drain,
    ending::Endings,
    foreign_programs::ForeignProgramDetector,
    freeze,
    lives::Lives,
    network::{generations_run, is_of_other_network, network},
    parking::Parking,
    polite::PoliteDrain,
    ports::{self, ForeignPorts},
    profile::Profiler,
    programs::Programs,
    registry::{Generation, Registry},
    reload::Reloads,
    reports::Reports,
    rollout::Rollouts,
    seats::Seats,
    shared::SharedState,
    slots::register,
    steering::Steering,
    wake, witness,
    workers::WorkerBalance,
};
use crate::{
    config::{Places, PoliteMode, ServiceConfig, Undeclared},
    datapath::{
        Declared, DeclaredDatagrams, Former, Impolite, PARKING, Pins, Polite, Renewal, ServicePath,
    },
    generation::{hook, keeper::Keeper, life::Main},
    rollout::GenerationState,
    store::{Journal, Ledger, LedgerFile, Origin, Remembered, journal::RolloutDetail},
    sys::{cgroup::Cgroup, process},
};

impl Service {
    /// Opens the service below `root`, the agent's cgroup: finds what an earlier agent left, which
    /// `former` says what may be done to, makes what is missing. Clients can connect when it returns.
    pub async fn open(
        config: ServiceConfig,
        places: Places,
        journal: &Journal,
        root: &Cgroup,
        former: Former,
    ) -> Result<Arc<Self>, OpenError> {
        let cgroup = root.child(&config.name);
        let parking = cgroup.child(PARKING);
        Cgroup::create(parking.path().to_owned()).map_err(|source| OpenError::Cgroup {
            path: parking.path().to_owned(),
            source,
        })?;
        // What an agent that was killed left running of its own.
        hook::sweep(&hooks_cgroup(&cgroup)).await;
        let mut ledger = Ledger::read(&places.ledger(&config.name))?;
        let pins = Pins::new(&places.bpffs, &config.name);
        witness::refuse_lost(&places, &cgroup, &pins, &ledger)?;
        let mut found_alive = witness::unknown(&cgroup, &ledger, &pins);
        witness::ask_journal(&mut found_alive, journal, &config.name).await;
        witness::remember(&mut ledger, found_alive);
        let has_parks = match Keeper::find(&places.keeper(&config.name)).await {
            Ok(keeper) => holds_any(&keeper).await,
            Err(_none) => false,
        };
        let netns = network(&config, &places, &cgroup).await?;
        let awaits_adopt = ports::must_wait(&config, &netns, &cgroup, &ledger, has_parks)?;
        let declared = declared(&config);
        if declared.differs_from(&pins)
            || is_of_other_user(&places, &config).await
            || is_of_other_network(&places, &config.name, &netns).await
        {
            ports::refuse_living_outside(&ledger)?;
            give_up_groups(&places, &config.name, &cgroup, &pins).await?;
        }
        let (path, writer) = ServicePath::open_or_create(pins, cgroup.path(), &declared, former)?;
        if config.drain.polite == PoliteMode::On {
            refuse_impolite(path.polite())?;
        }
        let (keeper, kept) =
            Keeper::find_or_start(places.keeper(&config.name), &parking, &netns).await?;
        tracing::info!(
            service = config.name,
            pins = ?path.renewal(),
            kept,
            awaits_adopt,
            "service opened"
        );
        let context = Context::new((config, places), journal.fenced(), cgroup, netns, path);
        let service = Arc::new(Self::of(
            context,
            Registry::new(Steering::new(writer), awaits_adopt),
            Parking::new(keeper),
        ));
        service.begin(ledger, awaits_adopt).await?;
        Ok(service)
    }

    /// One of which nothing is remembered yet.
    fn of(context: Context, registry: Registry, parking: Parking) -> Self {
        let ledger = LedgerFile::at(context.places.ledger(context.name()));
        let state = SharedState::new(registry, ledger);
        let (context, parking) = (Arc::new(context), Arc::new(parking));
        let (polite, endings) = (PoliteDrain::default(), Endings::default());
        let halted = watch::Sender::new(false);
        let reloads = Arc::new(Reloads::new(&context, &state, &parking, &halted));
        let reports = Arc::new(Reports::new(&context, &state, &reloads));
        let lives = Lives::new(&context, &state, &parking, &polite, (&endings, &reports));
        let lives = Arc::new(lives);
        let deploys = Arc::new(Deploys::new(&context, &state, &parking, &lives));
        Self {
            programs: Programs::default(),
            workers: WorkerBalance::default(),
            foreign_programs: ForeignProgramDetector::default(),
            profiler: Profiler::default(),
            incidents: Arc::default(),
            seats: Seats::new(&context, &state),
            datagrams: Datagrams::new(&context, &state, &endings),
            ports: Arc::new(ForeignPorts::new(&context, &state, &parking)),
            adoptions: Arc::new(Adoptions::new(&context, &state, &parking, &endings, &lives)),
            rollouts: Arc::new(Rollouts::new(&context, &state, &parking, &lives, &deploys)),
            reports,
            reloads,
            context,
            parking,
            state,
            polite,
            endings,
            halted,
            lives,
            deploys,
        }
    }

    /// Has clients connect, and takes up what an earlier agent left.
    async fn begin(self: &Arc<Self>, ledger: Ledger, awaits_adopt: bool) -> Result<(), OpenError> {
        if !awaits_adopt {
            self.adoptions.steer_adopted(&ledger).await;
            self.parking.open(self, &self.state).await?;
        }
        let unfinished = self.rollouts.unfinished().await;
        self.recover(ledger, unfinished).await;
        self.log_unrecorded().await;
        wake::after_another(
            Arc::clone(&self.context),
            self.state.clone(),
            self.polite.clone(),
            *self.path.renewal() != Renewal::None,
        );
        self.path.end_renewal();
        Ok(())
    }

    /// Takes over the generations of an earlier agent.
    async fn recover(self: &Arc<Self>, ledger: Ledger, unfinished: Vec<RolloutDetail>) {
        let held = Rollouts::held_by(&unfinished);
        let mut registry = self.state.lock().await;
        self.remember(&mut registry, ledger);
        self.datagrams.restore_flows(&registry);
        let living: Vec<GenerationId> = registry.living().map(Generation::id).collect();
        for &id in &living {
            self.follow_again(&mut registry, id);
        }
        self.lives.word_follows(&mut registry);
        for id in living {
            self.continue_with(&mut registry, id, held.contains(&id));
        }
        self.rollouts.resume_rollouts(&mut registry, unfinished);
        self.state.settle(&registry);
    }

    /// Enters what an earlier agent wrote down.
    fn remember(&self, registry: &mut Registry, ledger: Ledger) {
        let same_boot = ledger.boot == process::boot_id();
        let word = self.path.word();
        for remembered in registry.restore(ledger, word) {
            if !same_boot && remembered.state == GenerationState::Active {
                // Nobody is active after a reboot; a rollback leads to whoever was.
                registry
                    .steering_mut()
                    .set_previous(GenerationId::new(remembered.id));
            }
            let counted = remembered.counted;
            let seated = !remembered.unseated && same_boot;
            let id = GenerationId::new(remembered.id);
            let Some(generation) = self.restore(remembered, same_boot, word.active) else {
                registry.sums_mut().retire(counted);
                if let Some(id) = id.filter(|_| seated) {
                    self.seats.keep_latencies(registry, id);
                }
                continue;
            };
            registry.add(generation);
        }
    }

    /// Watches one that lives, and gives its listeners slots.
    fn follow_again(self: &Arc<Self>, registry: &mut Registry, id: GenerationId) {
        // A pid that started at another time is somebody else's by now.
        let main = registry.get(id).and_then(Generation::main);
        let main = main.filter(|&(pid, start)| process::start_time(pid) == Some(start));
        let main = main.map_or(0, |(pid, _)| pid);
        self.lives.watch_life(registry, id, Main::Found(main));
        self.adoptions.resume_outside(registry, id);
        if let Err(error) = register(self, registry, id) {
            tracing::error!(
                %error,
                generation = registry.name_of(id),
                "failed to register the listeners of a recovered generation"
            );
        }
    }

    /// Goes on with what was being done to one that lives; `held`: a rollout on probation may go back to it.
    fn continue_with(self: &Arc<Self>, registry: &mut Registry, id: GenerationId, held: bool) {
        match registry.get(id).map(Generation::state) {
            Some(GenerationState::Draining) if held => {
                if let Some(generation) = registry.get_mut(id) {
                    generation.undrain();
                }
            }
            Some(GenerationState::Draining) => self.lives.drain(registry, id),
            Some(GenerationState::Active) => {
                if let Some(generation) = registry.get(id) {
                    freeze::thaw(self, generation.cgroup());
                }
            }
            Some(GenerationState::Starting) if self.adoptions.prove_again(registry, id) => {}
            Some(GenerationState::Stopping | GenerationState::Starting) => {
                self.lives.stop_in_background(registry, id);
            }
            _ => {}
        }
    }

    /// A remembered generation as it is now. The kernel's word is the truth about who is active.
    fn restore(
        &self,
        remembered: Remembered,
        same_boot: bool,
        active: Option<GenerationId>,
    ) -> Option<Generation> {
        let id = GenerationId::new(remembered.id)?;
        if !ports::is_complete(&remembered) && active != Some(id) {
            self.adoptions.forget_adoption(id);
            return None;
        }
        let cgroup = self.remembered_cgroup(id, &remembered);
        let runs = same_boot && still_runs(&cgroup, remembered.main);
        let (state, reason) = match remembered.state {
            state if !state.is_live() => (state, remembered.reason.clone()),
            _ if !runs && !same_boot => (
                GenerationState::Stopped,
                Some("the host was restarted".to_owned()),
            ),
            GenerationState::Stopping if !runs => match &remembered.failed {
                Some(why) => (GenerationState::Failed, Some(why.clone())),
                None => (GenerationState::Stopped, None),
            },
            _ if !runs => (
                GenerationState::Failed,
                Some("it ended while no agent was running".to_owned()),
            ),
            _ if active == Some(id) => (GenerationState::Active, None),
            // The word had moved, the ledger had not been written yet.
            GenerationState::Active => (GenerationState::Draining, None),
            state => (state, remembered.reason.clone()),
        };
        let drain = match state {
            GenerationState::Draining | GenerationState::Stopping => {
                remembered.drain_since.filter(|_| same_boot).map(|since| {
                    Drain::found(since, self.path.live(Some(id)), self.config.drain.deadline)
                })
            }
            _ => None,
        };
        let begun = Generation::begin(id, remembered.name.clone(), cgroup);
        let found = (state, reason);
        Some(Generation::restored(
            begun, remembered, found, drain, same_boot,
        ))
    }

    fn remembered_cgroup(&self, id: GenerationId, remembered: &Remembered) -> Cgroup {
        match (remembered.provenance.origin, &remembered.provenance.cgroup) {
            (Origin::Adopted, Some(path)) => Cgroup::foreign(path.clone()),
            (_, Some(path)) => Cgroup::at(path.clone()),
            (_, None) => self.generation_cgroup(id, &remembered.name),
        }
    }
}

/// Whether the generation in this cgroup lives. In somebody else's cgroup another server may run
/// by now.
fn still_runs(cgroup: &Cgroup, main: Option<(u32, u64)>) -> bool {
    let main_runs = || main.is_some_and(|(pid, start)| process::start_time(pid) == Some(start));
    cgroup.is_populated() && (!cgroup.is_foreign() || main_runs())
}

/// The operator insists on asking clients to leave.
fn refuse_impolite(polite: Result<&Polite, &Impolite>) -> Result<(), OpenError> {
    let polite = polite.map_err(|impolite| OpenError::Impolite(impolite.reason().to_owned()))?;
    polite
        .try_out()
        .map_err(|error| OpenError::Impolite(error.to_string()))
}

async fn holds_any(keeper: &Keeper) -> bool {
    keeper.list().await.is_ok_and(|held| !held.is_empty())
}

/// What `join` must know of the service.
pub(super) fn declared(config: &ServiceConfig) -> Declared {
    Declared {
        addresses: config.listen.clone(),
        datagrams: config
            .datagrams
            .as_ref()
            .map(|datagrams| DeclaredDatagrams {
                addresses: datagrams.listen.clone(),
                table: datagrams.table,
                idle: datagrams.kept_for(),
                quic: datagrams.quic(),
            }),
        uid: config.identity.uid,
        undeclared: match config.undeclared {
            Undeclared::Refuse => UNDECLARED_REFUSE,
            Undeclared::Rewrite => UNDECLARED_REWRITE,
        },
    }
}

/// Whether the parking listeners belong to another user than the configured one.
pub(super) async fn is_of_other_user(places: &Places, config: &ServiceConfig) -> bool {
    let held = match Keeper::find(&places.keeper(&config.name)).await {
        Ok(keeper) => keeper.list().await,
        Err(error) => Err(error),
    };
    held.is_ok_and(|held| held.iter().any(|p| p.group_key.uid != config.identity.uid))
}

/// With other addresses, another owner or another network, the groups are others: start over, but not under
/// running generations.
async fn give_up_groups(
    places: &Places,
    service: &str,
    cgroup: &Cgroup,
    pins: &Pins,
) -> Result<(), OpenError> {
    if generations_run(cgroup) {
        return Err(OpenError::GroupsChanged);
    }
    tracing::warn!(
        service,
        "addresses, user or network of the service changed: recreating the parking listeners"
    );
    if let Ok(keeper) = Keeper::find(&places.keeper(service)).await {
        keeper.quit().await?;
    }
    pins.leave_shared()?;
    pins.remove()?;
    Ok(())
}
