//! Rollouts that an earlier agent left unfinished.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use lb_common::GenerationId;

use super::{
    super::{
        VerbError,
        broken::{Broken, unbroken},
        registry::{Generation, Registry},
    },
    Plan, Rollouts,
    execute::Known,
    plan::Intent,
};
use crate::{
    rollout::{GenerationState, Phase},
    store::journal::{End, Entry, GenerationRef, Outcome, Record, RolloutDetail, RolloutKind},
    sys::process,
};

/// How long the journal gets for the end of a rollout that broke.
const PATIENCE: Duration = Duration::from_secs(1);

impl Rollouts {
    /// What the journal has of rollouts that are not over. One that cannot be read has none:
    /// `status` says why.
    pub(in crate::agent::service) async fn unfinished(&self) -> Vec<RolloutDetail> {
        match self.journal.unfinished(self.name()).await {
            Ok(unfinished) => unfinished,
            Err(error) => {
                tracing::error!(
                    service = self.name(),
                    %error,
                    "failed to read unfinished rollouts from the journal"
                );
                Vec::new()
            }
        }
    }

    /// The generations that a rollout may go back to, or is about to: nothing is to happen to
    /// them.
    pub(in crate::agent::service) fn held_by(
        unfinished: &[RolloutDetail],
    ) -> BTreeSet<GenerationId> {
        let held = unfinished.iter().filter_map(last_intent);
        held.filter(|(intent, _)| match intent.course.phase {
            Phase::PreLoad | Phase::Validate | Phase::Swap | Phase::Bake => true,
            Phase::RollingBack => intent.plan.kind != RolloutKind::Rollback,
            Phase::Drain | Phase::Done | Phase::PostRollback | Phase::RolledBack => false,
        })
        .filter_map(|(intent, _)| intent.plan.from())
        .collect()
    }

    /// Finishes or undoes each of them, in the background.
    pub(in crate::agent::service) fn resume_rollouts(
        self: &Arc<Self>,
        registry: &mut Registry,
        unfinished: Vec<RolloutDetail>,
    ) {
        for told in unfinished {
            let id = told.summary.id;
            let Some((mut intent, at)) =
                last_intent(&told).filter(|_| told.boot == process::boot_id())
            else {
                self.give_up(told);
                continue;
            };
            intent.plan.to = known_as(registry, &told.summary.to).unwrap_or(intent.plan.to);
            if let Some(from) = &told.summary.from {
                intent.plan.from = known_as(registry, from).or(intent.plan.from);
            }
            self.seats.begin_traced(registry, &intent.plan);
            tracing::warn!(rollout = %id, phase = intent.course.phase.name(), "resuming a rollout");
            let swapped = self.path.word().active == intent.plan.to();
            let past = told.entries.into_iter().skip(at).collect();
            let known = Known::Before(id, past);
            let executor = self.launch(registry, intent.plan, intent.course, known);
            tokio::spawn(async move {
                match executor.resume(swapped).await {
                    Ok(done) => {
                        tracing::info!(rollout = %id, result = done.message, "completed a resumed rollout");
                    }
                    Err(error) => tracing::warn!(
                        rollout = %id,
                        %error,
                        "failed to complete a resumed rollout; it was rolled back"
                    ),
                }
            });
        }
    }

    /// A rollout of another boot, or one that had not begun: nothing of it is left to undo.
    fn give_up(self: &Arc<Self>, told: RolloutDetail) {
        let rollouts = Arc::clone(self);
        tokio::spawn(async move {
            let (outcome, reason) = if told.summary.kind == RolloutKind::FailOver {
                // The kernel had done it before it was written down.
                (Outcome::Done, "the active generation ended")
            } else if told.boot == process::boot_id() {
                (
                    Outcome::RolledBack,
                    "the agent ended before the rollout began",
                )
            } else {
                (Outcome::RolledBack, "the host was restarted")
            };
            let end = End {
                outcome,
                reason: Some(reason.to_owned()),
            };
            if let Err(error) = rollouts.journal.finish(told.summary.id, end).await {
                tracing::error!(%error, "failed to record the end of a rollout that left nothing to undo");
            }
        });
    }

    /// Whatever became of a rollout, nobody is starting its candidate any more.
    pub(super) async fn leave_nothing_starting(&self, plan: &Plan) {
        let Some(to) = plan.to().filter(|_| plan.start.is_some()) else {
            return;
        };
        let mut registry = self.state.lock().await;
        if registry.get(to).map(Generation::state) != Some(GenerationState::Starting) {
            return;
        }
        let name = registry.name_of(to);
        registry.end_deploy_of(&name);
        self.lives
            .discard(&mut registry, to, plan.reason.clone().unwrap_or_default());
    }

    /// What carries a rollout out broke beyond what is undone in order: who is active is what the
    /// word says, and the rollout is over.
    pub(super) async fn rollout_broke(&self, token: u64, broken: Broken) -> VerbError {
        let (id, plan) = self
            .state
            .change(|registry| {
                let rollout = registry.rollout_of(token);
                let known = rollout.map(|rollout| (rollout.id, rollout.plan.clone()));
                if known.is_some() {
                    registry.end_rollout();
                }
                known.map_or((None, None), |(id, plan)| (id, Some(plan)))
            })
            .await;
        let what = id.map_or_else(|| "a rollout".to_owned(), |id| id.to_string());
        let error = broken.of_verb(what);
        tracing::error!(service = self.name(), %error, "a bug aborted a rollout");
        if let Some(plan) = &plan {
            self.leave_nothing_starting(plan).await;
        }
        if let Some((id, plan)) = id.zip(plan) {
            let is_active = self.path.word().active == plan.to();
            let end = End {
                outcome: if is_active {
                    Outcome::Done
                } else {
                    Outcome::RolledBack
                },
                reason: Some(error.summary()),
            };
            // A journal that does not answer finds it unfinished when the next agent starts.
            let written = tokio::time::timeout(PATIENCE, self.journal.finish(id, end));
            if !matches!(unbroken(written).await, Ok(Ok(Ok(())))) {
                tracing::error!(
                    rollout = %id,
                    "failed to record the end of a rollout in the journal after a bug"
                );
            }
        }
        self.state.ring();
        error
    }
}

/// The id of a generation that was begun again under its name, and with that under another id:
/// a rollback starts one that has ended, and was killed before it could write that down.
fn known_as(registry: &Registry, generation: &GenerationRef) -> Option<u32> {
    let lives_on = |id| registry.get(id).is_some();
    if GenerationId::new(generation.id).is_some_and(lives_on) {
        return None;
    }
    Some(registry.by_name(&generation.name)?.id().raw())
}

/// The last phase that a rollout entered, and where the journal has the first of its attempts.
fn last_intent(told: &RolloutDetail) -> Option<(Intent, usize)> {
    let states = told.entries.iter().rev();
    let mut states = states.filter_map(|entry| match &entry.record {
        Record::Phase { state, .. } => serde_json::from_value::<Intent>(state.clone()).ok(),
        _ => None,
    });
    let intent = states.next()?;
    let begins = |entry: &Entry| matches!(&entry.record, Record::Phase { phase, .. } if *phase == intent.course.phase);
    let at = told.entries.iter().position(begins)?;
    Some((intent, at))
}
