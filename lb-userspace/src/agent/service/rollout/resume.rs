//! Rollouts that an earlier agent left unfinished.

use std::{collections::BTreeSet, sync::Arc};

use lb_common::GenerationId;
use tokio::sync::watch;

use super::{
    super::{Reporter, Service, books::Books},
    execute::Executor,
    plan::{InFlight, Intent},
};
use crate::{
    api::wire::Done,
    clock,
    rollout::Phase,
    store::journal::{End, Entry, GenerationRef, Outcome, Record, RolloutKind, Told},
    sys::process,
};

impl Service {
    /// What the journal has of rollouts that are not over. One that cannot be read has none:
    /// `status` says why.
    pub(in crate::agent::service) async fn unfinished(&self) -> Vec<Told> {
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
    pub(in crate::agent::service) fn held_by(unfinished: &[Told]) -> BTreeSet<GenerationId> {
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
        books: &mut Books,
        unfinished: Vec<Told>,
    ) {
        for told in unfinished {
            let id = told.summary.id;
            let Some((mut intent, at)) =
                last_intent(&told).filter(|_| told.boot == process::boot_id())
            else {
                self.give_up(told);
                continue;
            };
            intent.plan.to = known_as(books, &told.summary.to).unwrap_or(intent.plan.to);
            if let Some(from) = &told.summary.from {
                intent.plan.from = known_as(books, from).or(intent.plan.from);
            }
            self.begin_traced(books, &intent.plan);
            tracing::warn!(rollout = %id, phase = intent.course.phase.name(), "resuming a rollout");
            books.last_token += 1;
            let (interrupt, interrupted) = watch::channel(None);
            let (saw, seen) = watch::channel(intent.course.phase);
            if intent.course.phase != Phase::Drain {
                books.rollout = Some(InFlight {
                    token: books.last_token,
                    id: Some(id),
                    plan: intent.plan.clone(),
                    phase: intent.course.phase,
                    interrupt,
                    seen,
                });
            }
            let swapped = self.path.word().active == intent.plan.to();
            let executor = Executor {
                service: Arc::clone(self),
                id: Some(id),
                new: None,
                pending: Vec::new(),
                token: books.last_token,
                plan: intent.plan,
                course: intent.course,
                reporter: Reporter::silent(),
                interrupt: interrupted,
                seen: saw,
                began: clock::now(),
                past: told.entries.into_iter().skip(at).collect(),
                failure: None,
                done: Done::default(),
            };
            tokio::spawn(async move {
                match executor.resume(swapped).await {
                    Ok(done) => tracing::info!(rollout = %id, "{}", done.message),
                    Err(error) => tracing::warn!(
                        rollout = %id,
                        %error,
                        "resumed rollout was rolled back"
                    ),
                }
            });
        }
    }

    /// A rollout of another boot, or one that had not begun: nothing of it is left to undo.
    fn give_up(self: &Arc<Self>, told: Told) {
        let service = Arc::clone(self);
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
            if let Err(error) = service.journal.finish(told.summary.id, end).await {
                tracing::error!(%error, "failed to record the end of the rollout in the journal");
            }
        });
    }
}

/// The id of a generation that was begun again under its name, and with that under another id:
/// a rollback starts one that has ended, and was killed before it could write that down.
fn known_as(books: &Books, generation: &GenerationRef) -> Option<u32> {
    let lives_on = |id| books.get(id).is_some();
    if GenerationId::new(generation.id).is_some_and(lives_on) {
        return None;
    }
    Some(books.by_name(&generation.name)?.id.raw())
}

/// The last phase that a rollout entered, and where the journal has the first of its attempts.
fn last_intent(told: &Told) -> Option<(Intent, usize)> {
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
