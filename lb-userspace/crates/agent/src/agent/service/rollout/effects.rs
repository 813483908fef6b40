//! What a rollout does in its phases. Each effect looks first whether it was done already.

use std::time::{Duration, Instant};

use lb_common::GenerationId;

use super::{
    super::{
        Now, VerbError,
        lives::{Purpose, hold},
        pace::Pace,
        registry::Generation,
    },
    execute::Executor,
    report::Report,
};
use crate::{
    clock::{self, Deadline},
    rollout::GenerationState,
    store::journal::{Record, RolloutKind},
};

/// A candidate that does not answer so many probes in a row has failed its bake.
const MISSES: u32 = 3;
/// So many of a bake's probes are written down at most.
const TOLD_OF_BAKE: u32 = 100;
/// How often a candidate on probation is probed.
const PROBE_EVERY: Duration = Duration::from_secs(1);

impl Executor {
    /// Starts the candidate, unless it runs or cannot run beside the active generation.
    pub(super) async fn load(&mut self) -> Result<(), VerbError> {
        let Some(request) = self.plan.start.clone() else {
            return Ok(());
        };
        let to = self.to()?;
        if let Some(doubt) = self.rollouts.deploys.check_program(&request).await? {
            let text = doubt.clone();
            self.note(Record::Note { text }).await;
            let mut registry = self.rollouts.state.lock().await;
            self.rollouts
                .deploys
                .note_doubt(&mut registry, to, Some(doubt));
        }
        if self.plan.parked {
            return Ok(());
        }
        let started = self.start_candidate(to, &request).await;
        match started {
            Err(VerbError::NeverReady {
                ended: true, check, ..
            }) if self.may_park().await => {
                self.hand_over_parked(check).await;
                Ok(())
            }
            result => result,
        }
    }

    /// Starts it and waits until it is ready, or somebody wants something else.
    pub(super) async fn start_candidate(
        &mut self,
        to: GenerationId,
        request: &crate::api::wire::DeployRequest,
    ) -> Result<(), VerbError> {
        let rollouts = std::sync::Arc::clone(&self.rollouts);
        let reporter = self.reporter.clone();
        let starting = rollouts.deploys.start(to, request, &reporter);
        tokio::pin!(starting);
        tokio::select! {
            started = &mut starting => {
                self.done.warnings.extend(started?.warnings);
                return Ok(());
            }
            () = self.wanted.comes(self.course) => {}
        }
        // It finds out that it was stopped, and returns. It may have come to its turn for the registry,
        // so it goes on meanwhile.
        let ((), started) = tokio::join!(self.rollouts.lives.end(to), starting);
        started.map(drop)
    }

    pub(super) fn to(&self) -> Result<GenerationId, VerbError> {
        self.plan
            .to()
            .ok_or_else(|| VerbError::NothingBefore("the journal names no generation".to_owned()))
    }

    /// What was true when it became ready must be true now.
    pub(super) async fn probe(&mut self) -> Result<(), VerbError> {
        if self.plan.parked {
            return Ok(());
        }
        let to = self.to()?;
        let began = clock::now();
        let checked = self.rollouts.checks.check_again(to).await;
        let error = checked.as_ref().err().map(ToString::to_string);
        self.tell_check("candidate", error, began).await;
        checked
    }

    /// Writes a check down that ends now, and why it failed if it did.
    async fn tell_check(&mut self, name: &str, error: Option<String>, began: Instant) {
        let passed = || "its listeners are in place, and it answered".to_owned();
        let check = Record::Check {
            name: name.to_owned(),
            ok: error.is_none(),
            detail: error.clone().unwrap_or_else(passed),
            took_us: u64::try_from(began.elapsed().as_micros()).ok(),
        };
        if error.is_some() {
            self.note(check).await;
        } else {
            self.minutes.later(check);
        }
    }

    /// The word moves.
    pub(super) async fn store(&mut self) -> Result<(), VerbError> {
        if self.plan.parked {
            return self.store_parked().await;
        }
        let to = self.to()?;
        if self.rollouts.path.word().active == Some(to) {
            // An agent that was killed did it.
            let mut registry = self.rollouts.state.lock().await;
            registry.steering_mut().set_previous(self.plan.from());
            if let Some(from) = self.plan.from() {
                hold(&mut registry, from);
            }
            self.rollouts.state.settle(&registry);
            return Ok(());
        }
        let former = self.rollouts.lives.switch(to, Purpose::Promote).await?;
        if let Some(former) = former {
            // Another one, if the active generation ended since the rollout began.
            self.plan.from = Some(former.raw());
        }
        self.stored();
        self.tell_parked().await;
        Ok(())
    }

    /// Notes how long it took until the word had moved.
    pub(super) fn stored(&mut self) {
        let took = self.began.elapsed();
        self.done.steered_us = u64::try_from(took.as_micros()).ok();
    }

    /// Says so if clients who waited for the word go on waiting for the keeper.
    pub(super) async fn tell_parked(&mut self) {
        if let Some(text) = self.rollouts.parking.in_vain(&self.rollouts).await {
            self.reporter.step(text.clone());
            self.done.warnings.push(text.clone());
            self.note(Record::Note { text }).await;
        }
    }

    /// Now that it is active it still answers.
    pub(super) async fn verify(&mut self) -> Result<(), VerbError> {
        let to = self.to()?;
        let word = self.rollouts.path.word();
        self.note(Record::Word {
            done: true,
            active: word.active.map(GenerationId::raw),
            fallback: word.candidate.map(GenerationId::raw),
            epoch: word.epoch,
        })
        .await;
        if let Some(us) = self.done.steered_us {
            #[expect(clippy::cast_precision_loss, reason = "for people")]
            let value = us as f64 / 1000.0;
            self.note(Record::Figure {
                name: "from the request to the store".to_owned(),
                value,
                unit: "ms".to_owned(),
            })
            .await;
        }
        let began = clock::now();
        let checked = self.rollouts.checks.answers(to).await;
        let error = checked.as_ref().err().map(ToString::to_string);
        self.tell_check("active", error, began).await;
        match checked {
            Ok(()) => Ok(()),
            Err(error) => Err(self.rollouts.checks.not_ready(to, &error).await),
        }
    }

    /// Watches the candidate until the bake is over: that it runs, listens and answers.
    pub(super) async fn watch(&mut self) -> Result<(), VerbError> {
        if self.plan.bake.is_zero() {
            return Ok(());
        }
        let to = self.to()?;
        let until = self.bake_until();
        let mut missed = 0;
        let mut told = 0;
        loop {
            self.still_active(to).await?;
            let began = clock::now();
            let checked = self.rollouts.checks.answers(to).await;
            let error = checked.as_ref().err().map(ToString::to_string);
            let is_news = error.is_some() || missed != 0 || told == 0;
            if is_news && told < TOLD_OF_BAKE {
                // The first, the failures, and what comes after one: a bake may be long.
                told += 1;
                self.tell_check("bake", error, began).await;
            }
            match checked {
                Ok(()) => missed = 0,
                Err(error) => {
                    self.still_active(to).await?;
                    missed += 1;
                    if missed >= MISSES {
                        let why = format!("it did not answer {MISSES} probes in a row: {error}");
                        return Err(self.bake_failed(to, why).await);
                    }
                }
            }
            // It answered after the end of the bake: a paused agent has not just slept through it.
            let left = until.saturating_sub(clock::since_boot());
            if left.is_zero() && missed == 0 {
                return Ok(());
            }
            let step = format!(
                "{} is active, on probation for {}",
                self.rollouts
                    .state
                    .look(|registry| registry.name_of(to))
                    .await,
                humantime::format_duration(Duration::from_secs(left.as_secs()))
            );
            self.reporter.step(step);
            self.pause(to, left.min(PROBE_EVERY)).await?;
        }
    }

    /// When the bake is over, in time since boot: an agent that takes over goes by it too.
    pub(super) fn bake_until(&mut self) -> Duration {
        let bake = self.plan.bake;
        *self
            .plan
            .bake_until
            .get_or_insert_with(|| clock::since_boot().saturating_add(bake))
    }

    /// Waits for the next look, or for a reason to look sooner.
    async fn pause(&self, to: GenerationId, longest: Duration) -> Result<(), VerbError> {
        let mut pace = Pace::until(Deadline::after(longest));
        loop {
            tokio::select! {
                () = self.wanted.comes(self.course) => return Err(self.called_off()),
                again = self.rollouts.state.look_again(&mut pace) => if !again {
                    return Ok(());
                },
            }
            self.still_active(to).await?;
        }
    }

    pub(super) fn called_off(&self) -> VerbError {
        VerbError::CalledOff {
            rollout: self.name(),
            reason: "another request superseded it".to_owned(),
        }
    }

    async fn still_active(&self, to: GenerationId) -> Result<(), VerbError> {
        let why = {
            let registry = self.rollouts.state.lock().await;
            let generation = registry.get(to);
            if generation.is_some_and(|g| g.state() == GenerationState::Active) {
                if self.rollouts.listens(to) {
                    return Ok(());
                }
                // Its processes close them before its end is known.
                match generation.and_then(|g| g.end().how()) {
                    Some(how) => format!("it {how}"),
                    None => "its listeners are gone".to_owned(),
                }
            } else {
                generation
                    .and_then(Generation::reason)
                    .unwrap_or("it is no longer active")
                    .to_owned()
            }
        };
        Err(self.bake_failed(to, why).await)
    }

    async fn bake_failed(&self, to: GenerationId, why: String) -> VerbError {
        let registry = self.rollouts.state.lock().await;
        VerbError::BakeFailed {
            generation: registry.name_of(to),
            why,
            now: Now::Undone,
        }
    }

    /// The former generation gets rid of its connections.
    pub(super) async fn drain(&mut self) -> Result<(), VerbError> {
        let Some(from) = self.plan.from() else {
            return Ok(());
        };
        self.rollouts
            .state
            .change(|registry| {
                if let Some(generation) = registry.get_mut(from) {
                    generation.keep_for(self.plan.keep);
                    if generation.state() == GenerationState::Draining
                        && generation.drain().is_none()
                    {
                        self.rollouts.lives.drain(registry, from);
                        // The next agent is to know when it began.
                        self.rollouts.state.settle(registry);
                    }
                }
            })
            .await;
        let report = Report::new(&self.rollouts, &self.plan, &self.reporter);
        report
            .await_drain(from, self.course.phase, &mut self.minutes, &mut self.done)
            .await;
        Ok(())
    }

    /// Makes the former generation active again; starts it if it has ended.
    pub(super) async fn store_back(&mut self) -> Result<(), VerbError> {
        if self.plan.parked {
            return self.store_back_parked().await;
        }
        let away = self.plan.away();
        let word = self.rollouts.path.word();
        let Some(back) = self.plan.back() else {
            self.nobody_active(away).await;
            return Ok(());
        };
        if word.active == Some(back)
            || self.plan.kind != RolloutKind::Rollback && word.active != away
        {
            return Ok(());
        }
        self.make_active_again(back).await
    }

    /// The word moves back; the generation's command is started again if it has ended.
    pub(super) async fn make_active_again(&mut self, back: GenerationId) -> Result<(), VerbError> {
        let back = if self.rollouts.lives.can_take_over(back).await {
            back
        } else {
            let (name, again) = self
                .rollouts
                .state
                .look(|registry| {
                    let again = self.rollouts.lives.started_to_serve(registry, back);
                    (registry.name_of(back), again)
                })
                .await;
            let change = match again {
                Some(again) => again.allowed_change().await?,
                None => None,
            };
            if let Some(change) = change {
                let text = format!("{name} is restarted, but {change}");
                tracing::warn!(generation = name, %change, "restarting a generation whose program or directory changed");
                self.done.warnings.push(text.clone());
                self.note(Record::Note { text }).await;
            }
            self.reporter.step(if self.plan.parked {
                format!("clients wait; restarting {name}")
            } else {
                format!("{name} has ended; restarting its command")
            });
            self.rollouts.deploys.revive(back, &self.reporter).await?
        };
        self.rollouts.lives.switch(back, Purpose::Rollback).await?;
        self.stored();
        self.tell_parked().await;
        Ok(())
    }

    /// Before the rollout nobody was active.
    async fn nobody_active(&self, away: Option<GenerationId>) {
        let mut registry = self.rollouts.state.lock().await;
        let word = self.rollouts.path.word();
        if word.active.is_none() || word.active != away {
            return;
        }
        if let Some(away) = away {
            self.rollouts.lives.park_everybody(&mut registry, away);
            self.rollouts.lives.drain(&mut registry, away);
            self.rollouts.state.settle(&registry);
        }
    }

    /// Ends a candidate that this rollout started, unless an operator may want it later.
    pub(super) async fn discard(&mut self) -> Result<(), VerbError> {
        let undone = self.wanted.is_undo();
        let Some(to) = self.plan.to().filter(|_| self.plan.start.is_some()) else {
            return Ok(());
        };
        let mut registry = self.rollouts.state.lock().await;
        let state = registry.get(to).map(Generation::state);
        let drains = registry.get(to).is_some_and(|g| g.drain().is_some());
        let why = self.plan.reason.clone().unwrap_or_default();
        // However it ended: nobody deploys it any more.
        let name = registry.name_of(to);
        registry.end_deploy_of(&name);
        if let Some(generation) = registry.get_mut(to).filter(|_| !undone) {
            generation.condemn(why.clone());
        }
        match state {
            Some(GenerationState::Draining) if undone || drains => {}
            Some(GenerationState::Starting) => self.rollouts.lives.discard(&mut registry, to, why),
            Some(GenerationState::Ready | GenerationState::Draining | GenerationState::Standby) => {
                self.rollouts.lives.stop_in_background(&mut registry, to);
            }
            // Somebody else ended it; its name is free all the same.
            Some(GenerationState::Stopped) if !undone => {
                if let Some(generation) = registry.get_mut(to) {
                    generation.enter(GenerationState::Failed, Some(why));
                }
            }
            _ => {}
        }
        // The journal goes on from here: an agent after this one does not discard it again.
        self.rollouts.state.settle(&registry);
        drop(registry);
        let _unrecorded = self.rollouts.state.ledger().written().await;
        Ok(())
    }
}
