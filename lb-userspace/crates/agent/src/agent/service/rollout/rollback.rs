//! Rollback: of a rollout that goes on, or by a rollout of its own.

use std::{sync::Arc, time::Duration};

use lb_common::GenerationId;

use super::{
    super::{
        Caller, Reporter, VerbError,
        again::Again,
        find::named,
        lives::Purpose,
        registry::{Generation, Registry},
    },
    Rollouts,
    plan::Plan,
    report::Drained,
    start::Asked,
};
use crate::{
    api::wire::{Done, RollbackRequest},
    clock,
    rollout::{self, GenerationState, Phase, RollbackWay},
    store::journal::{Record, RolloutKind, Who},
};

/// Longest wait for a rollout to have been undone, its hooks included.
const UNDONE: Duration = Duration::from_mins(5);

impl Rollouts {
    /// Calls the rollout off that goes on; without one, makes the generation active that was so
    /// before the last promote, or the one that is named.
    ///
    /// # Errors
    ///
    /// [`VerbError::NothingBefore`] when there was none; as `deploy` when its command
    /// had to be started again, and did not serve. The traffic stays where it is then.
    pub(in crate::agent::service) async fn rollback(
        self: &Arc<Self>,
        request: RollbackRequest,
        caller: Caller,
        reporter: &Reporter,
    ) -> Result<Done, VerbError> {
        self.ports.refuse_while_held().await?;
        self.state
            .change(|registry| self.lives.catch_up(registry))
            .await;
        if let Some(done) = self.call_off(&request, &caller.who).await? {
            return Ok(done);
        }
        let began = clock::now();
        self.await_room().await;
        self.refuse_to_start_others(&request).await?;
        let executor = {
            let mut registry = self.state.lock().await;
            Self::make_room(&registry)?;
            let to = self.rollback_target(&registry, request.to.as_deref())?;
            let parked = self.back_is_parked(&registry, to);
            let from = self.path.word().active;
            let hooks = self.config.hooks.clone();
            let parent = caller.parent.as_ref();
            let plan = Plan {
                parked,
                anyway: request.anyway,
                reason: Some(format!("requested by {}", caller.who.name)),
                ..Plan::new(RolloutKind::Rollback, from, to, hooks, parent)
            };
            self.register_rollout(
                &mut registry,
                plan,
                Phase::RollingBack,
                Asked::by(caller.who, reporter, began),
            )
        };
        let away = executor.plan.away();
        let task = tokio::spawn(executor.run());
        let mut done = self.joined(task.await)?;
        if let Some(away) = away {
            let limit = if request.no_wait {
                Duration::ZERO
            } else {
                self.config
                    .drain
                    .deadline
                    .saturating_add(super::start::SLACK)
            };
            self.await_former(&mut done, away, limit, reporter).await;
        }
        Ok(done)
    }

    /// Refuses where what would be started is not what it was.
    async fn refuse_to_start_others(&self, request: &RollbackRequest) -> Result<(), VerbError> {
        let (back, ends_first) = {
            let registry = self.state.lock().await;
            Self::make_room(&registry)?;
            let to = self.rollback_target(&registry, request.to.as_deref())?;
            let parked = self.back_is_parked(&registry, to);
            let active = self.path.word().active.filter(|_| parked);
            (
                self.lives.started_to_serve(&registry, to),
                active.and_then(|active| Again::after_all(&registry, active)),
            )
        };
        if let Some(back) = back {
            back.refuse_another(request.anyway).await?;
        }
        if let Some(ends_first) = ends_first {
            ends_first.refuse_last(request.anyway).await?;
        }
        Ok(())
    }

    /// Has the rollout that goes on undone. `None` if there is none, or another generation than
    /// its former one is wanted.
    async fn call_off(
        self: &Arc<Self>,
        request: &RollbackRequest,
        who: &Who,
    ) -> Result<Option<Done>, VerbError> {
        let (id, name, mut seen) = {
            let mut registry = self.state.lock().await;
            let Some(rollout) = registry.rollout() else {
                return Ok(None);
            };
            if rollout.phase > Phase::Bake {
                return Err(VerbError::RolloutRuns {
                    rollout: rollout.name(),
                    phase: rollout.phase.name(),
                });
            }
            let from = rollout.plan.from();
            if let Some(wanted) = &request.to
                && from.map(|from| registry.name_of(from)).as_ref() != Some(wanted)
            {
                return Ok(None);
            }
            let (id, name) = (rollout.id, rollout.name());
            let seen = rollout.seen.clone();
            let to = rollout.plan.to();
            // The clients first: one store, and then the rest.
            if let Some(from) = from
                && !rollout.plan.parked
                && self.path.word().active == to
                && self.lives.can_take_over_in(&registry, from)
            {
                self.lives
                    .switch_in(&mut registry, from, Purpose::Rollback)?;
            }
            if let Some(rollout) = registry.rollout() {
                rollout.undo(format!("{} requested a rollback", who.name));
            }
            (id, name, seen)
        };
        if let Some(id) = id {
            let text = format!("{} requested a rollback", who.name);
            if let Err(error) = self.journal.record(id, Record::Note { text }).await {
                tracing::error!(
                    rollout = %id,
                    %error,
                    "failed to record the request for a rollback in the journal"
                );
            }
        }
        let over = async { seen.wait_for(|phase| phase.is_over()).await.is_ok() };
        // Ended, or its executor is gone, or it takes its time: `status` tells.
        let _ended = tokio::time::timeout(UNDONE, over).await;
        let registry = self.state.lock().await;
        let active = self
            .path
            .word()
            .active
            .map(|active| registry.name_of(active));
        Ok(Some(Done {
            message: match &active {
                Some(active) => format!("{name} is rolled back: {active} is active"),
                None => format!("{name} is rolled back: no generation is active, clients wait"),
            },
            generation: active,
            rollout: id.map(|id| id.to_string()),
            ..Done::default()
        }))
    }

    /// Where a rollback leads.
    fn rollback_target(
        &self,
        registry: &Registry,
        wanted: Option<&str>,
    ) -> Result<GenerationId, VerbError> {
        if let Some(name) = wanted {
            let id = named(self, registry, name)?;
            return match registry.get(id).map(Generation::state) {
                Some(GenerationState::Active) => Err(VerbError::NoWayBack {
                    generation: name.to_owned(),
                    reason: rollout::Unpromotable::Active,
                }),
                Some(GenerationState::Starting) => Err(VerbError::NoWayBack {
                    generation: name.to_owned(),
                    reason: rollout::Unpromotable::Starting,
                }),
                _ => Ok(id),
            };
        }
        if let Some(RollbackWay::Warm(id) | RollbackWay::Cold(id)) =
            registry.decide(rollout::rollback_way)
        {
            return Ok(id);
        }
        let before = registry
            .steering()
            .previous()
            .and_then(|id| registry.get(id));
        if let Some(before) = before.filter(|before| before.state() == GenerationState::Failed) {
            return Err(VerbError::NothingBefore(format!(
                "{0} failed when it was started again, or before; `hotlb rollback --to {0}` tries it once more",
                before.name()
            )));
        }
        Err(VerbError::NothingBefore(match self.path.word().active {
            Some(active) => format!(
                "there was no promote before that of {}, or it was already rolled back; `hotlb \
                 promote` any generation that `hotlb status` shows, or `hotlb rollback --to` one \
                 of them",
                registry.name_of(active)
            ),
            None => "no generation was ever promoted".to_owned(),
        }))
    }

    /// Whether the former one can only be started once the active one has ended.
    fn back_is_parked(&self, registry: &Registry, to: GenerationId) -> bool {
        self.is_parked(registry) && !self.lives.can_take_over_in(registry, to)
    }

    /// Waits for the drain of the generation that was rolled back, as a promote does.
    async fn await_former(
        &self,
        done: &mut Done,
        away: GenerationId,
        limit: Duration,
        reporter: &Reporter,
    ) {
        let name = done.generation.clone().unwrap_or_default();
        let former = self.state.look(|registry| registry.name_of(away)).await;
        reporter.only_waits(&Done {
            message: format!("{name} is active, {former} is still draining"),
            former: Some(former.clone()),
            ..done.clone()
        });
        let mut pace = super::super::pace::Pace::until(clock::Deadline::after(limit));
        loop {
            if let Some(drained) = self.drain_outcome(away).await {
                done.message = drained.message(&name, &former);
                done.cut = drained.cut_count;
                break;
            }
            let step = format!("{name} is active; {former} is draining");
            reporter.remaining(step, self.path.live(Some(away)));
            if !self.state.look_again(&mut pace).await {
                done.message = format!("{name} is active, {former} is still draining");
                break;
            }
        }
        done.former = Some(former);
    }

    /// How a generation was drained, once it is.
    pub(super) async fn drain_outcome(&self, id: GenerationId) -> Option<Drained> {
        let registry = self.state.lock().await;
        let Some(generation) = registry.get(id) else {
            // Another of its name took its place.
            return Some(Drained {
                state: GenerationState::Stopped,
                reason: None,
                cut: Vec::new(),
                cut_count: None,
                signal_cut: None,
            });
        };
        match generation.state() {
            GenerationState::Draining | GenerationState::Stopping => None,
            state => Some(Drained {
                state,
                reason: generation.reason().map(str::to_owned),
                cut: generation.end().cut_list().to_vec(),
                cut_count: generation.end().cut(),
                signal_cut: generation.end().signal_cut().map(str::to_owned),
            }),
        }
    }
}
