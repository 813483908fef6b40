//! What an earlier agent left of a service: its generations, and its rollouts.

use std::sync::Arc;

use lb_common::GenerationId;

use super::{
    Context,
    adopt::Adoptions,
    datagrams::Datagrams,
    drain::Drain,
    ending::Endings,
    freeze,
    lives::Lives,
    ports,
    registry::{Generation, Registry},
    rollout::Rollouts,
    seats::Seats,
    shared::SharedState,
    slots::register,
};
use crate::{
    generation::life::Main,
    rollout::GenerationState,
    store::{Ledger, Origin, Remembered},
    sys::{cgroup::Cgroup, process},
};

/// Takes up what an earlier agent left.
#[derive(Debug)]
pub(super) struct Recovery {
    context: Arc<Context>,
    state: SharedState,
    lives: Arc<Lives>,
    adoptions: Arc<Adoptions>,
    rollouts: Arc<Rollouts>,
    seats: Seats,
    datagrams: Datagrams,
}

context_of!(Recovery);

impl Recovery {
    /// That of a service.
    pub(super) fn new(
        context: &Arc<Context>,
        state: &SharedState,
        endings: &Endings,
        lives: &Arc<Lives>,
        adoptions: &Arc<Adoptions>,
        rollouts: &Arc<Rollouts>,
    ) -> Self {
        Self {
            context: Arc::clone(context),
            state: state.clone(),
            lives: Arc::clone(lives),
            adoptions: Arc::clone(adoptions),
            rollouts: Arc::clone(rollouts),
            seats: Seats::new(context, state),
            datagrams: Datagrams::new(context, state, endings),
        }
    }

    /// Takes over the generations of an earlier agent, and has its rollouts go on.
    pub(super) async fn recover(&self, ledger: Ledger) {
        let unfinished = self.rollouts.unfinished().await;
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
    fn follow_again(&self, registry: &mut Registry, id: GenerationId) {
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
    fn continue_with(&self, registry: &mut Registry, id: GenerationId, held: bool) {
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
        let (state, reason) = found_as(&remembered, active == Some(id), runs, same_boot);
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

/// The state of a remembered generation, and why it is in it.
fn found_as(
    remembered: &Remembered,
    is_active: bool,
    runs: bool,
    same_boot: bool,
) -> (GenerationState, Option<String>) {
    match remembered.state {
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
        _ if is_active => (GenerationState::Active, None),
        // The word had moved, the ledger had not been written yet.
        GenerationState::Active => (GenerationState::Draining, None),
        state => (state, remembered.reason.clone()),
    }
}

/// Whether the generation in this cgroup lives. In somebody else's cgroup another server may run
/// by now.
fn still_runs(cgroup: &Cgroup, main: Option<(u32, u64)>) -> bool {
    let main_runs = || main.is_some_and(|(pid, start)| process::start_time(pid) == Some(start));
    cgroup.is_populated() && (!cgroup.is_foreign() || main_runs())
}
