//! What there is to show of a service at one moment. It is taken under the lock of the state, so nothing here waits: what
//! is counted is read with the seats it is counted at, all else is copied.

use std::{collections::BTreeMap, time::Duration};

use lb_common::{GenerationId, SteeringWord};

use super::{
    super::{
        drain::Drain,
        foreign_programs::ForeignPrograms,
        hung::Still,
        ports::strays::StraySockets,
        processes::Processes,
        registry::{Generation, Registry},
        steering::Moves,
    },
    View, accounting,
};
use crate::{
    api::wire::{KeptProfilesStatus, ProgramStatus, RolloutStatus},
    datapath::{ConnectionCounts, Latencies, ServicePath},
    generation::{keeper::Parked, progress::Progress},
    incident::Summary,
    observed::Slowest,
    rollout::{GenerationState, habit::Habits},
    store::{Origin, RolloutStats},
    sys::cgroup::Cgroup,
};

/// A service at one moment.
#[derive(Debug)]
#[cfg_attr(test, derive(Default))]
pub(super) struct Snapshot {
    /// Who gets new clients.
    pub(super) word: SteeringWord,
    /// Where a rollback leads.
    pub(super) previous: Option<GenerationId>,
    pub(super) moves: Moves,
    /// Connections that wait for a generation.
    pub(super) parked: u64,
    /// What is said of them beside a generation that is active.
    pub(super) parked_warning: Option<String>,
    pub(super) parks: Vec<Parked>,
    /// The connections that the parking listeners took, and how long those clients waited.
    pub(super) parked_connections: ConnectionCounts,
    pub(super) parked_latencies: Latencies,
    /// The same of generations that are not remembered any more.
    pub(super) retired: ConnectionCounts,
    pub(super) past: Latencies,
    pub(super) awaits_adopt: bool,
    pub(super) keeper_error: Option<String>,
    pub(super) ledger_error: Option<String>,
    pub(super) rollout: Option<RolloutStatus>,
    pub(super) rollout_stats: RolloutStats,
    pub(super) habits: Habits,
    pub(super) foreign_programs: ForeignPrograms,
    pub(super) strays: StraySockets,
    pub(super) programs: ProgramStatus,
    pub(super) profiles: Option<KeptProfilesStatus>,
    pub(super) incident: Option<Summary>,
    /// Oldest first.
    pub(super) generations: Vec<GenerationView>,
}

/// A generation at that moment.
#[derive(Debug)]
pub(super) struct GenerationView {
    pub(super) id: GenerationId,
    pub(super) name: String,
    pub(super) state: GenerationState,
    pub(super) command: Vec<String>,
    pub(super) reason: Option<String>,
    /// In seconds since the host was started.
    pub(super) since: u64,
    pub(super) origin: Origin,
    /// Nobody but its own supervisor can start it.
    pub(super) is_started_elsewhere: bool,
    pub(super) was_ready: bool,
    pub(super) cgroup: Cgroup,
    pub(super) main: Option<(u32, u64)>,
    pub(super) connections: ConnectionCounts,
    /// `None` once its seat is another's.
    pub(super) latencies: Option<Latencies>,
    pub(super) slowest: Option<Slowest>,
    /// The slots of its listeners and of its UDP sockets, by cookie.
    pub(super) steered: BTreeMap<u64, u32>,
    pub(super) datagrams: BTreeMap<u64, u32>,
    pub(super) progress: Progress,
    pub(super) still: Still,
    pub(super) unsteered: usize,
    pub(super) unseen_ends: u64,
    pub(super) not_frozen: Option<String>,
    pub(super) drain: Option<Drain>,
    /// When it was sent its signal, since the host was started.
    pub(super) told: Option<Duration>,
}

impl Snapshot {
    /// Of the service that `view` shows, for who has the lock.
    pub(super) fn take(view: &View, registry: &Registry) -> Self {
        let path = &view.path;
        let parked_connections = path.connections(None);
        let parked = parked_connections.live;
        let name = |id| registry.name_of(id);
        Self {
            word: path.word(),
            previous: registry.steering().previous(),
            moves: registry.steering().moves(),
            parked,
            parked_warning: (parked > 0).then(|| view.parking.warning(parked)),
            parks: registry.parks().all().to_vec(),
            parked_connections,
            parked_latencies: path.latencies(None),
            retired: registry.sums().retired(),
            past: registry.sums().past().clone(),
            awaits_adopt: registry.awaits_adopt(),
            keeper_error: registry.keeper_error().map(str::to_owned),
            ledger_error: view.state.ledger().trouble(),
            rollout: registry.rollout().map(|rollout| rollout.status(&name)),
            rollout_stats: registry.sums().rollout_stats().clone(),
            habits: registry.sums().habits().clone(),
            foreign_programs: view.foreign_programs.found(),
            strays: view.strays.found(),
            programs: view.programs.status(view),
            profiles: view.profiler.status(view),
            incident: view.incidents.fresh(),
            generations: registry
                .all()
                .map(|generation| GenerationView::take(path, generation))
                .collect(),
        }
    }

    /// The generation with this id.
    pub(super) fn get(&self, id: GenerationId) -> Option<&GenerationView> {
        self.generations.iter().find(|seen| seen.id == id)
    }

    /// The name of a generation.
    pub(super) fn name_of(&self, id: GenerationId) -> String {
        let seen = self.get(id);
        seen.map_or_else(|| format!("#{}", id.raw()), |seen| seen.name.clone())
    }

    /// Whether a generation of this name is known.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.generations.iter().any(|seen| seen.name == name)
    }
}

impl GenerationView {
    fn take(path: &ServicePath, generation: &Generation) -> Self {
        let connections = accounting::connections(path, generation);
        Self::of(
            generation,
            connections,
            accounting::latencies(path, generation),
        )
    }

    /// With what is counted of it.
    pub(super) fn of(
        generation: &Generation,
        connections: ConnectionCounts,
        latencies: Option<Latencies>,
    ) -> Self {
        let slots = generation.slots();
        Self {
            id: generation.id(),
            name: generation.name().to_owned(),
            state: generation.state(),
            command: generation.command().words().to_vec(),
            reason: generation.reason().map(str::to_owned),
            since: generation.since(),
            origin: generation.provenance().origin,
            is_started_elsewhere: generation.provenance().is_started_elsewhere(),
            was_ready: generation.was_ready(),
            cgroup: generation.cgroup().clone(),
            main: generation.main(),
            connections,
            slowest: generation.slowest(latencies.as_ref()),
            latencies,
            steered: slots.steered().clone(),
            datagrams: slots.datagrams().clone(),
            progress: slots.progress().clone(),
            still: *generation.still(),
            unsteered: slots.left_out(),
            unseen_ends: generation.counts().unseen_ends(),
            not_frozen: generation.not_frozen().map(str::to_owned),
            drain: generation.drain().cloned(),
            told: generation.end().signalled().map(Duration::from_secs),
        }
    }

    /// Its processes.
    pub(super) const fn processes(&self) -> Processes<'_> {
        Processes {
            cgroup: &self.cgroup,
            main: self.main,
        }
    }

    /// Whether it lives on in somebody else's cgroup without its first process.
    pub(super) fn lost_its_first(&self) -> bool {
        let serves = self.state.can_serve();
        serves && self.cgroup.is_foreign() && !self.processes().main_runs()
    }
}
