//! The hand-over of a server that cannot run twice: clients wait while the former generation
//! ends and the candidate starts.

use std::time::Duration;

use lb_common::GenerationId;

use super::{
    super::{VerbError, again::Again, find::own_cgroup, lives::Purpose, registry::Generation},
    execute::Executor,
};
use crate::{
    clock,
    config::HandOver,
    rollout::GenerationState,
    store::journal::{Record, RolloutKind},
};

/// How often it is said how far the former one is.
const TOLD: Duration = Duration::from_secs(1);

impl Executor {
    /// Whether a second instance that ended may mean that the server cannot run twice.
    pub(super) async fn may_park(&self) -> bool {
        let registry = self.rollouts.state.lock().await;
        let runs = self
            .plan
            .from()
            .and_then(|from| registry.get(from))
            .is_some_and(|former| former.state() == GenerationState::Active);
        runs && self.rollouts.config.hand_over == HandOver::Auto
    }

    /// The server cannot run twice: this rollout, and those to come, park.
    pub(super) async fn hand_over_parked(&mut self, why: String) {
        let text = format!(
            "the second instance ended ({why}): the server may be unable to run twice, so it is \
             handed over parked"
        );
        self.reporter.step(text.clone());
        self.plan.parked = true;
        self.note(Record::Note { text }).await;
    }

    /// Parks everybody, ends the former one, starts the candidate, and lets it serve.
    pub(super) async fn store_parked(&mut self) -> Result<(), VerbError> {
        let to = self.to()?;
        if self.rollouts.path.word().active == Some(to) {
            return Ok(());
        }
        if let Some(from) = self.plan.from() {
            let again = self
                .rollouts
                .state
                .look(|registry| Again::after_all(registry, from))
                .await;
            if let Some(again) = again {
                again.refuse_last(self.plan.anyway).await?;
            }
            self.park_and_end(from).await;
        }
        let to = self.start_alone().await?;
        self.rollouts.lives.switch(to, Purpose::Promote).await?;
        self.stored();
        let mut registry = self.rollouts.state.lock().await;
        registry.steering_mut().set_previous(self.plan.from());
        // Alone it serves: the next hand-over parks at once.
        registry.note_alone(self.rollouts.config.hand_over == HandOver::Auto);
        self.done.generation = Some(registry.name_of(to));
        self.done.message = format!("{} is active", registry.name_of(to));
        self.rollouts.state.settle(&registry);
        drop(registry);
        self.tell_parked().await;
        Ok(())
    }

    /// New clients wait; the generation ends once nothing is in flight.
    async fn park_and_end(&mut self, id: GenerationId) {
        let name = self
            .rollouts
            .state
            .change(|registry| {
                if self.rollouts.path.word().active == Some(id) {
                    self.rollouts.lives.park_everybody(registry, id);
                }
                registry.name_of(id)
            })
            .await;
        self.reporter
            .step(format!("clients wait; {name} finishes its requests"));
        self.rollouts.leaving.finish_in_flight(id).await;
        self.reporter.step(format!("clients wait; stopping {name}"));
        self.end_aloud(id, &name).await;
        let cut = self
            .rollouts
            .state
            .look(|registry| {
                registry
                    .get(id)
                    .and_then(|g| g.end().signal_cut().map(str::to_owned))
            })
            .await;
        if let Some(text) = cut {
            let text = format!("{name}: {text}");
            self.note(Record::Note { text }).await;
        }
        // One that was killed may hold what the next one needs for a moment.
        if let Some(cgroup) = own_cgroup(&self.rollouts.state, id).await {
            self.rollouts.leaving.await_gone(id, &cgroup).await;
        }
    }

    /// Ends it, and says meanwhile how long that takes and how many clients wait.
    async fn end_aloud(&self, id: GenerationId, name: &str) {
        let began = clock::now();
        let ending = self.rollouts.lives.end(id);
        tokio::pin!(ending);
        while tokio::time::timeout(TOLD, &mut ending).await.is_err() {
            let waiting = self.rollouts.path.live(None);
            let took = Duration::from_secs(began.elapsed().as_secs());
            let took = humantime::format_duration(took);
            // Whoever has come to its turn for the registry must go on, or nobody gets them.
            let until = tokio::select! {
                () = &mut ending => return,
                until = self.rollouts.leaving.saves_for(id) => until,
            };
            let until = until.map_or_else(String::new, |left| {
                let left = humantime::format_duration(Duration::from_secs(left.as_secs()));
                format!(" and saves its data; it is killed in {left} (drain.stop_deadline)")
            });
            self.reporter.step(format!(
                "{waiting} clients wait; {name} has been ending for {took}{until}"
            ));
        }
    }

    /// Starts the candidate, now that it is alone.
    async fn start_alone(&mut self) -> Result<GenerationId, VerbError> {
        let request =
            self.plan.start.clone().ok_or_else(|| {
                VerbError::NothingBefore("the journal names no command".to_owned())
            })?;
        let mut to = self.to()?;
        let waits = self
            .rollouts
            .state
            .look(|registry| {
                let state = registry.get(to).map(Generation::state);
                state == Some(GenerationState::Starting)
            })
            .await;
        if !waits {
            // It has been tried beside the former one, and ended.
            to = self.rollouts.deploys.enrol(&request, false).await?;
            self.plan.to = to.raw();
            let mut registry = self.rollouts.state.lock().await;
            self.rollouts.seats.begin_traced(&mut registry, &self.plan);
        }
        self.start_candidate(to, &request).await?;
        Ok(to)
    }

    /// Back to the former one: the candidate ends first, for the two cannot run at once.
    pub(super) async fn store_back_parked(&mut self) -> Result<(), VerbError> {
        let back = self.plan.back();
        if back.is_some() && self.rollouts.path.word().active == back {
            return Ok(());
        }
        if let Some(away) = self.plan.away() {
            self.park_and_end(away).await;
        }
        let Some(back) = back else {
            let mut registry = self.rollouts.state.lock().await;
            registry.steering_mut().lead_nowhere();
            return Ok(());
        };
        let back = self.make_active_again(back).await;
        if back.is_err()
            && self.plan.kind == RolloutKind::Rollback
            && let Some(away) = self.plan.away()
        {
            // Who was active is better than nobody.
            if let Err(error) = self.make_active_again(away).await {
                tracing::error!(
                    %error,
                    "failed to make the previous generation active again; no generation is active"
                );
            }
        }
        back
    }
}
