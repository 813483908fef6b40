//! Promote and rollback: the word moves.

use std::{sync::Arc, time::Duration};

use lb_common::{GenerationId, Share, SteeringWord};

use super::{Pace, Service, VerbError, books::Books, candidate::still_alive, report::Reporter};
use crate::{
    api::wire::{DeployRequest, Done},
    clock::{self, Deadline},
    rollout::{self, GenerationState, RollbackWay, Standing},
};

/// Longest wait of a promote for the drain, beyond the drain's own deadlines.
const SLACK: Duration = Duration::from_secs(10);

/// What a move of the word is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Promote,
    Rollback,
}

impl Service {
    /// Makes a generation active; returns when the former one is drained.
    ///
    /// # Errors
    ///
    /// Before the word moves; after that nothing can fail.
    pub async fn promote(
        self: &Arc<Self>,
        name: &str,
        reporter: &Reporter,
    ) -> Result<Done, VerbError> {
        let began = clock::now();
        let id = self.find(name).await?;
        refuse_unpromotable(&*self.books.lock().await, id)?;
        self.check_again(id).await?;
        let former = self.switch(id, Purpose::Promote).await?;
        let steered = began.elapsed();
        self.report_switch(name, former, steered, reporter).await
    }

    /// Makes the generation active that was so before the last promote.
    ///
    /// # Errors
    ///
    /// [`VerbError::NothingBefore`] when there was none; else as [`Service::deploy`] when its
    /// command had to be started again.
    pub async fn rollback(self: &Arc<Self>, reporter: &Reporter) -> Result<Done, VerbError> {
        let began = clock::now();
        let (way, name) = self.rollback_target().await?;
        let id = match way {
            RollbackWay::Warm(id) if self.can_take_over(id).await => id,
            RollbackWay::Warm(id) | RollbackWay::Cold(id) => {
                reporter.step(format!("{name} has ended: starting its command again"));
                self.revive(id, reporter).await?
            }
        };
        let former = self.switch(id, Purpose::Rollback).await?;
        let steered = began.elapsed();
        self.report_switch(&name, former, steered, reporter).await
    }

    /// The id of the generation with this name.
    pub(super) async fn find(&self, name: &str) -> Result<GenerationId, VerbError> {
        let books = self.books.lock().await;
        books
            .by_name(name)
            .map(|g| g.id)
            .ok_or_else(|| VerbError::UnknownGeneration {
                service: self.name().to_owned(),
                name: name.escape_debug().to_string(),
                known: books.names(),
            })
    }

    /// What was true when it became ready must be true now.
    async fn check_again(&self, id: GenerationId) -> Result<(), VerbError> {
        let checked = async {
            {
                let mut books = self.books.lock().await;
                still_alive(&books, id)?;
                self.register(&mut books, id)?;
            }
            self.answers(id).await
        };
        match checked.await {
            Ok(()) => Ok(()),
            Err(error) => Err(VerbError::NotReady {
                generation: self.books.lock().await.name_of(id),
                check: error.to_string(),
            }),
        }
    }

    async fn rollback_target(&self) -> Result<(RollbackWay, String), VerbError> {
        let books = self.books.lock().await;
        let Some(way) = books.decide(rollout::rollback_way) else {
            let why = match self.path.word().active {
                Some(active) => format!(
                    "no promote came before the one of {}, or it was rolled back already; \
                     `hotlb promote` any generation that `hotlb status` shows",
                    books.name_of(active)
                ),
                None => "no generation was ever promoted".to_owned(),
            };
            return Err(VerbError::NothingBefore(why));
        };
        let (RollbackWay::Warm(id) | RollbackWay::Cold(id)) = way;
        Ok((way, books.name_of(id)))
    }

    /// Whether every group still has a listener of the generation.
    async fn can_take_over(&self, id: GenerationId) -> bool {
        let books = self.books.lock().await;
        still_alive(&books, id).is_ok() && self.listens(id)
    }

    /// Starts the command of a generation that has ended again, under its name.
    async fn revive(
        self: &Arc<Self>,
        id: GenerationId,
        reporter: &Reporter,
    ) -> Result<GenerationId, VerbError> {
        let request = {
            let books = self.books.lock().await;
            let generation = books.get(id).ok_or_else(|| {
                VerbError::NothingBefore("the generation before is forgotten".to_owned())
            })?;
            DeployRequest {
                generation: Some(generation.name.clone()),
                command: generation.command.clone(),
                cwd: generation.cwd.clone(),
                env: generation.env.clone(),
                timeout_ms: None,
            }
        };
        self.end(id).await;
        let name = request.generation.clone().unwrap_or_default();
        self.deploy(request, reporter).await?;
        self.find(&name).await
    }

    /// The moment of truth: one store.
    async fn switch(
        self: &Arc<Self>,
        id: GenerationId,
        purpose: Purpose,
    ) -> Result<Option<GenerationId>, VerbError> {
        let mut books = self.books.lock().await;
        // Between the checks and now it may have been stopped, promoted, or ended.
        refuse_unpromotable(&books, id)?;
        let former = self.path.word().active.filter(|&former| former != id);
        let candidate = books.decide(|standing| {
            let previous = former;
            rollout::fallback(
                Standing {
                    previous,
                    ..standing
                },
                Some(id),
            )
        });
        self.path.steer(SteeringWord {
            active: Some(id),
            candidate,
            share: Share::NONE,
            epoch: 0,
        });
        match purpose {
            Purpose::Promote => {
                books.promotes += 1;
                books.previous = former;
            }
            Purpose::Rollback => {
                books.rollbacks += 1;
                books.previous = None;
            }
        }
        if let Some(generation) = books.get_mut(id) {
            generation.undrain();
            generation.enter(GenerationState::Active, None);
        }
        if former.is_none() || self.path.live(None) > 0 {
            self.release_parked(&mut books);
        }
        self.retire_others(&mut books, id, former);
        if let Some(former) = former {
            self.drain(&mut books, former);
        }
        self.settle(&mut books);
        Ok(former)
    }

    /// One generation is kept beside the active one: the former. Earlier ones end.
    fn retire_others(
        self: &Arc<Self>,
        books: &mut Books,
        active: GenerationId,
        former: Option<GenerationId>,
    ) {
        let others: Vec<GenerationId> = books
            .generations
            .iter()
            .filter(|g| g.state == GenerationState::Standby)
            .map(|g| g.id)
            .filter(|&id| id != active && Some(id) != former)
            .collect();
        for id in others {
            self.stop_in_background(books, id);
        }
    }

    /// Waits for the drain of the former generation, saying how far it is.
    async fn report_switch(
        &self,
        name: &str,
        former: Option<GenerationId>,
        steered: Duration,
        reporter: &Reporter,
    ) -> Result<Done, VerbError> {
        let steered_us = u64::try_from(steered.as_micros()).ok();
        let mut done = Done {
            message: format!("{name} is active"),
            generation: Some(name.to_owned()),
            steered_us,
            ..Done::default()
        };
        let Some(former) = former else {
            return Ok(done);
        };
        let policy = self.config.drain;
        let limit = policy.signal_after + policy.deadline + SLACK;
        let mut pace = Pace::until(Deadline::after(limit));
        let former_name = self.books.lock().await.name_of(former);
        reporter.only_waits(&Done {
            message: format!("{name} is active, {former_name} is still draining"),
            former: Some(former_name.clone()),
            ..done.clone()
        });
        let drained = loop {
            if let Some(outcome) = self.drain_outcome(former).await {
                break Some(outcome);
            }
            let step = format!("{name} is active; {former_name} is draining");
            reporter.remaining(step, self.path.live(Some(former)));
            if !self.look_again(&mut pace).await {
                break None;
            }
        };
        done.cut = self.books.lock().await.get(former).and_then(|g| g.cut);
        done.message = match drained {
            Some((state, reason)) => {
                let reason = reason.map_or_else(String::new, |reason| format!(" ({reason})"));
                format!(
                    "{name} is active, {former_name} is {}{reason}",
                    state.name()
                )
            }
            None => format!("{name} is active, {former_name} is still draining"),
        };
        done.former = Some(former_name);
        Ok(done)
    }

    /// The state a generation was drained to, once it is.
    async fn drain_outcome(&self, id: GenerationId) -> Option<(GenerationState, Option<String>)> {
        let books = self.books.lock().await;
        let Some(generation) = books.get(id) else {
            return Some((GenerationState::Stopped, None)); // another of its name took its place
        };
        match generation.state {
            GenerationState::Draining | GenerationState::Stopping => None,
            state => Some((state, generation.reason.clone())),
        }
    }

    /// Makes the word say what the books say: after a generation came, went or failed.
    pub(super) fn word_follows(&self, books: &mut Books) {
        let word = self.path.word();
        let able = |id: GenerationId| match books.get(id) {
            Some(generation) => generation.state.can_serve(),
            // Unknown, for the ledger was lost: if it listens, it serves.
            None => self.listens(id),
        };
        let mut active = word.active.filter(|&id| able(id));
        if active.is_none() && word.active.is_some() {
            // The kernel has moved the traffic already; this makes it official.
            active = word.candidate.filter(|&id| able(id));
        }
        let candidate = books.decide(|standing| rollout::fallback(standing, active));
        // With nobody active, a candidate that was never promoted waits to be.
        let next = SteeringWord {
            active,
            candidate: candidate.filter(|_| active.is_some()),
            ..word
        };
        if (next.active, next.candidate) == (word.active, word.candidate) {
            return;
        }
        self.path.steer(next);
        if let Some(id) = active.filter(|&id| word.active != Some(id)) {
            self.failed_over(books, id);
        }
    }

    /// Whether every group has a listener of the generation.
    fn listens(&self, id: GenerationId) -> bool {
        let groups = self.path.groups();
        groups.iter().all(|group| group.live_listeners(id) > 0)
    }

    fn failed_over(&self, books: &mut Books, id: GenerationId) {
        books.failovers += 1;
        if books.previous == Some(id) {
            books.previous = None;
        }
        if let Some(generation) = books.get_mut(id) {
            generation.undrain();
            let reason = "the active generation ended".to_owned();
            generation.enter(GenerationState::Active, Some(reason));
        }
        self.release_parked(books);
    }
}

fn refuse_unpromotable(books: &Books, id: GenerationId) -> Result<(), VerbError> {
    let generation = books.name_of(id);
    let state = books.get(id).map_or(GenerationState::Failed, |g| g.state);
    match rollout::cannot_promote(state) {
        Some(reason) => Err(VerbError::Unpromotable { generation, reason }),
        None => Ok(()),
    }
}
