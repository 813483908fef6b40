//! The lives of generations: who gets new clients, who drains, stands by, and ends.
//!
//! The word moves here: to a generation that is promoted, back to the former one, or after the kernel when a generation
//! ended. Who loses the word drains (`drain`), and who is drained stands by or ends (`stop`).

mod drain;
mod stop;

use std::{sync::Arc, time::Duration};

use lb_common::GenerationId;

use super::{
    Context, VerbError,
    again::Again,
    broken::{kept_up, outlive, unbroken},
    checks::still_alive,
    datagrams::Datagrams,
    drain::Leaving,
    ending::{Endings, Teller},
    find::named,
    freeze, outlet,
    parking::{Parking, someone_waits},
    polite::PoliteDrain,
    registry::{Generation, Registry},
    reports::Reports,
    seats::Seats,
    shared::SharedState,
};
use crate::{
    clock::Deadline,
    generation::life::{self, Main},
    lineage::Lineage,
    rollout::{self, GenerationState, Standing},
    store::journal::{End, GenerationRef, NewRollout, Outcome, RolloutKind, Who},
    sys::process,
};

/// Before a fail-over is made official: longer than the clients of the dead generation take to be served.
const AFTERMATH: Duration = Duration::from_millis(3);

/// What a move of the word is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The former generation is held until the rollout lets go of it.
    Promote,
    /// The former generation is drained at once.
    Rollback,
}

/// Who of a service's generations gets new clients, drains, stands by or ends.
#[derive(Debug)]
pub(super) struct Lives {
    context: Arc<Context>,
    state: SharedState,
    parking: Arc<Parking>,
    polite: PoliteDrain,
    endings: Endings,
    reports: Arc<Reports>,
    seats: Seats,
    datagrams: Datagrams,
    teller: Teller,
    leaving: Arc<Leaving>,
}

context_of!(Lives);

impl Lives {
    /// Those of a service.
    pub(super) fn new(
        context: &Arc<Context>,
        state: &SharedState,
        parking: &Arc<Parking>,
        polite: &PoliteDrain,
        (endings, reports): (&Endings, &Arc<Reports>),
    ) -> Self {
        Self {
            context: Arc::clone(context),
            state: state.clone(),
            parking: Arc::clone(parking),
            polite: polite.clone(),
            endings: endings.clone(),
            reports: Arc::clone(reports),
            seats: Seats::new(context, state),
            datagrams: Datagrams::new(context, state, endings),
            teller: Teller::new(context, state),
            leaving: Arc::new(Leaving::new(context, state, polite, endings)),
        }
    }

    /// What ends of generations.
    pub(super) fn leaving(&self) -> Arc<Leaving> {
        Arc::clone(&self.leaving)
    }

    /// The moment of truth: one store. Says who was active before.
    pub(super) async fn switch(
        self: &Arc<Self>,
        id: GenerationId,
        purpose: Purpose,
    ) -> Result<Option<GenerationId>, VerbError> {
        let mut registry = self.state.lock().await;
        self.switch_in(&mut registry, id, purpose)
    }

    /// [`Lives::switch`] for who has the lock.
    pub(super) fn switch_in(
        self: &Arc<Self>,
        registry: &mut Registry,
        id: GenerationId,
        purpose: Purpose,
    ) -> Result<Option<GenerationId>, VerbError> {
        // Between the checks and now it may have been stopped, promoted, or ended.
        refuse_unpromotable(registry, id)?;
        let previous = registry.steering().former(id);
        let fallback = registry.decide(|standing| {
            rollout::fallback(
                Standing {
                    previous,
                    ..standing
                },
                Some(id),
            )
        });
        if let Some(generation) = registry.get(id) {
            freeze::thaw(self, generation.cgroup());
        }
        let former = match purpose {
            Purpose::Promote => registry.steering_mut().promote(id, fallback),
            Purpose::Rollback => registry.steering_mut().roll_back(id, fallback),
        };
        self.became_active(registry, id, None);
        if former.is_none() || self.path.live(None) > 0 {
            self.parking.release();
        }
        if let Some(former) = former {
            match purpose {
                Purpose::Promote => hold(registry, former),
                Purpose::Rollback => self.drain(registry, former),
            }
        }
        self.retire_others(registry, id, former);
        self.state.settle(registry);
        Ok(former)
    }

    pub(super) fn became_active(
        &self,
        registry: &mut Registry,
        id: GenerationId,
        reason: Option<String>,
    ) {
        self.datagrams.take_flows(id);
        if let Some(generation) = registry.get_mut(id) {
            generation.undrain();
            generation.acquit();
            freeze::thaw(self, generation.cgroup());
            generation.enter(GenerationState::Active, reason);
        }
    }

    /// So many generations are kept beside the active one, the former among them. Earlier ones
    /// end.
    fn retire_others(
        self: &Arc<Self>,
        registry: &mut Registry,
        active: GenerationId,
        former: Option<GenerationId>,
    ) {
        let room = self.config.keep.generations;
        let room = room.saturating_sub(usize::from(former.is_some()));
        let mut others: Vec<(u64, GenerationId)> = registry
            .all()
            .filter(|g| g.state() == GenerationState::Standby)
            .map(|g| (g.since(), g.id()))
            .filter(|&(_, id)| id != active && Some(id) != former)
            .collect();
        others.sort_unstable();
        others.reverse();
        for (_, id) in others.into_iter().skip(room) {
            self.stop_in_background(registry, id);
        }
    }

    /// Whether every group still has a listener of the generation, and it lives.
    pub(super) async fn can_take_over(&self, id: GenerationId) -> bool {
        let registry = self.state.lock().await;
        self.can_take_over_in(&registry, id)
    }

    /// [`Lives::can_take_over`] for who has the lock.
    pub(super) fn can_take_over_in(&self, registry: &Registry, id: GenerationId) -> bool {
        let able = registry.get(id).is_some_and(|g| g.state().can_serve());
        able && still_alive(registry, id).is_ok() && self.listens(id)
    }

    /// Makes the word say what the registry says: after a generation came, went or failed.
    pub(super) fn word_follows(self: &Arc<Self>, registry: &mut Registry) {
        self.catch_up(registry);
        let word = self.path.word();
        let able = |id: GenerationId| match registry.get(id) {
            Some(generation) => generation.state().can_serve(),
            // Unknown, for the ledger was lost: if it listens, it serves.
            None => self.listens(id),
        };
        let mut active = word.active.filter(|&id| able(id));
        if active.is_none() && word.active.is_some() {
            // The kernel has moved the traffic already; this makes it official.
            active = word.candidate.filter(|&id| able(id));
        }
        let fallback = registry.decide(|standing| rollout::fallback(standing, active));
        // With nobody active, a candidate that was never promoted waits to be.
        let fallback = fallback.filter(|_| active.is_some());
        if registry.steering_mut().follow(active, fallback)
            && let Some(id) = active
        {
            self.failed_over(registry, word.active, id);
        }
    }

    fn failed_over(
        self: &Arc<Self>,
        registry: &mut Registry,
        former: Option<GenerationId>,
        id: GenerationId,
    ) {
        self.became_active(registry, id, Some("the active generation ended".to_owned()));
        self.parking.release();
        let how = former
            .and_then(|former| registry.get(former))
            .and_then(|former| former.reason())
            .unwrap_or("ended");
        let how = how.strip_prefix("it ").unwrap_or(how);
        let why = format!("the active generation {how}");
        self.note_failover(registry, former, id, why);
    }

    /// Waits in the background for the generation's end.
    pub(super) fn watch_life(
        self: &Arc<Self>,
        registry: &mut Registry,
        id: GenerationId,
        main: Main,
    ) {
        let Some(generation) = registry.get(id) else {
            return;
        };
        let cgroup = generation.cgroup().clone();
        let last_words = outlet::last_words(self, generation.name());
        let lives = Arc::clone(self);
        tokio::spawn(async move {
            let how = match unbroken(life::ended(main, &cgroup)).await {
                Ok(how) => how,
                Err(_broken) => {
                    kept_up("wait for the end of a generation", || {
                        life::ended(Main::Found(0), &cgroup)
                    })
                    .await
                }
            };
            // Whoever tells of its end knows what it did before.
            outlive(lives.name(), "event handling", lives.reports.heard()).await;
            lives.is_over(id, how).await;
            lives.clients_first(id).await;
            let noted = lives.ended(id);
            outlive(lives.name(), "handling of an end", noted).await;
            last_words.settled().await;
        });
    }

    /// A generation has no process left: whoever asks knows it from here on.
    async fn is_over(&self, id: GenerationId, how: String) {
        self.state
            .change(|registry| {
                if let Some(generation) = registry.get(id) {
                    generation.end().note(how);
                }
            })
            .await;
    }

    /// Where the kernel has led the clients of a dead generation to the fallback, they need the CPUs more than the
    /// registry does. A rollout waits for the registry, though, and so do a fallback that may be frozen and who is parked.
    async fn clients_first(&self, id: GenerationId) {
        let word = self.path.word();
        let led = word.active == Some(id) && word.candidate.is_some_and(|next| self.listens(next));
        let waits = self.config.keep.freeze || someone_waits(self, Some(id));
        if led
            && !waits
            && self
                .state
                .look(|registry| registry.rollout().is_none())
                .await
        {
            tokio::time::sleep_until(Deadline::after(AFTERMATH).instant()).await;
        }
    }

    async fn ended(self: &Arc<Self>, id: GenerationId) {
        let mut registry = self.state.lock().await;
        self.ended_in(&mut registry, id);
        self.state.settle(&registry);
    }

    /// Makes the end of an active generation official that waits for its clients: who decides now must not take it for
    /// alive.
    pub(super) fn catch_up(self: &Arc<Self>, registry: &mut Registry) {
        let is_over = |g: &&Generation| g.state() == GenerationState::Active && g.end().has_come();
        if let Some(id) = registry.all().find(is_over).map(Generation::id) {
            self.ended_in(registry, id);
        }
    }

    fn ended_in(self: &Arc<Self>, registry: &mut Registry, id: GenerationId) {
        let Some(generation) = registry.get_mut(id) else {
            return;
        };
        let how = generation.end().how().unwrap_or_default();
        match generation.state() {
            GenerationState::Ready
            | GenerationState::Active
            | GenerationState::Draining
            | GenerationState::Standby => {
                tracing::error!(
                    generation = generation.name(),
                    how,
                    "a generation ended by itself"
                );
                generation.undrain();
                self.seats.retire_from_kernel(registry, id);
                if let Some(generation) = registry.get_mut(id) {
                    generation.enter(GenerationState::Failed, Some(how));
                }
                self.word_follows(registry);
            }
            // `deploy` or `end` waits for exactly this.
            GenerationState::Starting | GenerationState::Stopping => {}
            GenerationState::Stopped | GenerationState::Failed => {
                self.seats.retire_from_kernel(registry, id);
            }
        }
    }

    /// Makes a generation active, at once, because it was so before it ended and nobody else is.
    pub(super) fn take_over_again(
        self: &Arc<Self>,
        registry: &mut Registry,
        id: GenerationId,
        note: &str,
    ) {
        let fallback = registry.decide(|standing| rollout::fallback(standing, Some(id)));
        registry.steering_mut().promote_again(id, fallback);
        self.became_active(registry, id, Some(note.to_owned()));
        self.parking.release();
        self.note_failover(registry, None, id, note.to_owned());
    }

    /// Writes a fail-over down, in the background: the traffic does not wait for the disk. What
    /// happens during a rollout is a part of that one.
    pub(in crate::agent::service) fn note_failover(
        self: &Arc<Self>,
        registry: &Registry,
        former: Option<GenerationId>,
        id: GenerationId,
        why: String,
    ) {
        if registry.rollout().is_some() {
            return;
        }
        let reference = |id: GenerationId| GenerationRef {
            id: id.raw(),
            name: registry.name_of(id),
        };
        let new = NewRollout {
            service: self.name().to_owned(),
            kind: RolloutKind::FailOver,
            from: former.map(reference),
            to: reference(id),
            who: Who {
                uid: None,
                pid: None,
                name: "agent".to_owned(),
            },
            trace: Lineage::begin(None).0,
            boot: process::boot_id(),
        };
        let lives = Arc::clone(self);
        tokio::spawn(async move {
            let end = End {
                outcome: Outcome::Done,
                reason: Some(why),
            };
            let written = match lives.journal.begin(new).await {
                Ok(rollout) => lives.journal.finish(rollout, end).await,
                Err(error) => Err(error),
            };
            if let Err(error) = written {
                tracing::error!(%error, "failed to record the fail-over in the journal");
            }
        });
    }

    /// The generation, if it would be started again to become active.
    pub(super) fn started_to_serve(&self, registry: &Registry, id: GenerationId) -> Option<Again> {
        let generation = registry.get(id)?;
        (!self.can_take_over_in(registry, id)).then(|| Again::of(generation))
    }

    /// The id of the generation with this name.
    pub(super) async fn find(&self, name: &str) -> Result<GenerationId, VerbError> {
        named(self, &*self.state.lock().await, name)
    }
}

/// Takes the former generation out of service, and nothing more: a rollout on probation may go
/// back to it.
pub(super) fn hold(registry: &mut Registry, id: GenerationId) {
    if let Some(generation) = registry.get_mut(id)
        && generation.state().can_serve()
    {
        generation.undrain();
        generation.enter(GenerationState::Draining, None);
    }
}

/// An error for a generation that cannot be made active.
pub(super) fn refuse_unpromotable(registry: &Registry, id: GenerationId) -> Result<(), VerbError> {
    let generation = registry.name_of(id);
    let state = registry
        .get(id)
        .map_or(GenerationState::Failed, Generation::state);
    match rollout::cannot_promote(state) {
        Some(reason) => Err(VerbError::Unpromotable { generation, reason }),
        None => Ok(()),
    }
}
