//! Ending a generation: signal, deadline, kill.

use std::{sync::Arc, time::Duration};

use lb_common::GenerationId;

use super::{
    super::{
        VerbError,
        broken::{Broken, unbroken},
        drain::{Drain, DrainStep, FINISH, Signalled},
        ending::Judged,
        outlet,
        pace::Pace,
        processes::{gone, kill_rest},
        registry::{Generation, Registry},
        report::Reporter,
    },
    Lives,
};
use crate::{
    agent::drill,
    api::wire::Done,
    clock::Deadline,
    rollout::{self, GenerationState},
    sys::cgroup::Cgroup,
};

/// How long killed processes may take to be gone.
const GONE: Duration = Duration::from_secs(5);

/// Whose it is to end a generation.
enum Ending {
    /// The caller's.
    Ours,
    /// Somebody's who has begun already.
    Others,
    /// Nobody's: it is gone, or active.
    NotToBe,
}

/// How long a generation that nobody ends in order any more has to end by itself.
const BY_ITSELF: Duration = Duration::from_secs(5);

impl Lives {
    /// Ends a generation. The active one only with `park`: then new clients wait from here on,
    /// until another generation is promoted.
    ///
    /// # Errors
    ///
    /// [`VerbError::ActiveStop`] for the active one without `park`.
    pub(in crate::agent::service) async fn stop(
        self: &Arc<Self>,
        name: &str,
        park: bool,
        reporter: &Reporter,
    ) -> Result<Done, VerbError> {
        let id = self.find(name).await?;
        let is_active = {
            let mut registry = self.state.lock().await;
            self.catch_up(&mut registry);
            let is_active = registry
                .get(id)
                .is_some_and(|g| rollout::cannot_stop(g.state()));
            if is_active && !park {
                return Err(VerbError::ActiveStop(name.to_owned()));
            }
            if is_active {
                self.park_everybody(&mut registry, id);
            }
            is_active
        };
        if is_active {
            reporter.step(format!("clients wait; {name} finishes its requests"));
            self.leaving.finish_in_flight(id).await;
        }
        reporter.step(format!("stopping {name}"));
        self.end(id).await;
        // Who is told that it ended finds its last words in its file.
        outlet::last_words(self, name).settled().await;
        let registry = self.state.lock().await;
        if registry
            .get(id)
            .is_some_and(|g| rollout::cannot_stop(g.state()))
        {
            return Err(VerbError::ActiveStop(name.to_owned())); // promoted meanwhile
        }
        let reason = registry.get(id).and_then(|g| g.reason().map(str::to_owned));
        Ok(Done {
            message: match reason {
                Some(reason) => format!("{name} is stopped ({reason})"),
                None => format!("{name} is stopped"),
            },
            generation: Some(name.to_owned()),
            ..Done::default()
        })
    }

    /// Waits until whoever ends the generation has done so: a second signal would have many
    /// servers quit at once.
    async fn await_end(&self, id: GenerationId) {
        let policy = &self.config.drain;
        let longest = policy
            .long_lived
            .map_or(policy.deadline, |long| long.deadline.max(policy.deadline));
        let longest = longest.saturating_add(policy.stop_deadline);
        let mut pace = Pace::until(Deadline::after(longest.saturating_add(2 * GONE)));
        loop {
            let state = self
                .state
                .look(|registry| registry.get(id).map(Generation::state))
                .await;
            if state != Some(GenerationState::Stopping) || !self.state.look_again(&mut pace).await {
                return;
            }
        }
    }

    /// Has every new client wait: nobody is active, nobody stands in.
    pub(in crate::agent::service) fn park_everybody(
        &self,
        registry: &mut Registry,
        active: GenerationId,
    ) {
        registry.steering_mut().park(active);
        if let Some(generation) = registry.get_mut(active) {
            generation.enter(GenerationState::Draining, None);
        }
        self.state.settle(registry);
    }

    /// Ends a generation without anybody waiting for it.
    pub(in crate::agent::service) fn stop_in_background(
        self: &Arc<Self>,
        registry: &mut Registry,
        id: GenerationId,
    ) {
        self.mark_stopping(registry, id);
        let lives = Arc::clone(self);
        tokio::spawn(async move { lives.end(id).await });
    }

    /// Takes it out of the choice: from here on no connection reaches it.
    fn mark_stopping(self: &Arc<Self>, registry: &mut Registry, id: GenerationId) {
        let deadline = self.config.drain.deadline;
        let live = self.datagrams.clients(id);
        let going_down = registry.is_ending();
        self.catch_up(registry);
        let Some(generation) = registry.get_mut(id) else {
            return;
        };
        let can_stop = generation.state() != GenerationState::Active || going_down;
        if !can_stop
            || matches!(generation.state(), GenerationState::Stopping)
            || !generation.state().is_live()
        {
            return;
        }
        match generation.drain_mut() {
            // Its time began with the drain.
            Some(drain) if !going_down => {
                drain.abort();
                drain.enter(DrainStep::Finishing);
            }
            _ => {
                generation.undrain();
                generation.begin_drain(Drain::end_now(live, deadline));
            }
        }
        generation.enter_stopping();
        self.word_follows(registry);
    }

    /// Says whose it is to end a generation.
    fn begin_stop(self: &Arc<Self>, registry: &mut Registry, id: GenerationId) -> Ending {
        self.mark_stopping(registry, id);
        let generation = registry.get_mut(id);
        let generation = generation.filter(|g| g.state() != GenerationState::Active);
        match generation.map(Generation::begin_end) {
            None => Ending::NotToBe,
            Some(true) => Ending::Ours,
            Some(false) => Ending::Others,
        }
    }

    /// Ends a generation and waits until it is gone: its signal to its first process, then, at
    /// the deadline, what the operator wants done with what is left.
    pub(in crate::agent::service) async fn end(self: &Arc<Self>, id: GenerationId) {
        let ending = self
            .state
            .change(|registry| {
                let ending = self.begin_stop(registry, id);
                self.state.settle(registry);
                ending
            })
            .await;
        match ending {
            Ending::Ours => {
                if let Err(broken) = unbroken(self.end_ours(id)).await {
                    self.end_broke(id, broken).await;
                }
            }
            Ending::Others => self.await_end(id).await,
            Ending::NotToBe => {}
        }
    }

    async fn end_ours(self: &Arc<Self>, id: GenerationId) {
        drill::point("end");
        let Some(judged) = self.endings.judge(self, &self.state, id).await else {
            return;
        };
        let (cgroup, deadline) = {
            let registry = self.state.lock().await;
            let Some(generation) = registry.get(id) else {
                return;
            };
            let deadline = generation.drain().map(Drain::deadline);
            (generation.cgroup().clone(), deadline)
        };
        let mut deadline = deadline.unwrap_or_else(|| Deadline::after(self.config.drain.deadline));
        let mut cut = None;
        let mut has_run = cgroup.is_populated();
        let (mut registry, left) = loop {
            if has_run {
                cut = self
                    .signal_and_wait(id, &cgroup, &judged, &mut deadline)
                    .await;
            }
            let left = self.leaving.left_outside(id).await;
            let mut registry = self.state.lock().await;
            self.seats.retire_from_kernel(&mut registry, id);
            // One that was being started came into its cgroup before that could be removed.
            if has_run || cgroup.is_foreign() || !cgroup.is_populated() {
                break (registry, left);
            }
            has_run = true;
        };
        if let Some(generation) = registry.get_mut(id)
            && generation.state() == GenerationState::Stopping
        {
            let took = generation.drain().map(|drain| drain.began().elapsed());
            let took = Duration::from_secs(took.unwrap_or_default().as_secs());
            let limit = humantime::format_duration(took);
            generation.end_mut().settle(cut, left);
            let end = generation.end();
            let reason = match (end.cut(), end.signal_cut()) {
                (Some(cut), _) => Some(format!("ended after {limit}, {cut} connections cut")),
                (None, advice) => advice.or(generation.reason()).map(str::to_owned),
            };
            let reason = match (reason, end.left()) {
                (Some(reason), Some(left)) => Some(format!("{reason}; {left}")),
                (reason, left) => reason.or_else(|| left.map(str::to_owned)),
            };
            generation.undrain();
            let (state, why) = generation.last_state();
            generation.enter(state, why.or(reason));
        }
        self.state.settle(&registry);
    }

    /// Has what runs in the cgroup end, by its signal and at the deadline; how many connections were cut.
    async fn signal_and_wait(
        self: &Arc<Self>,
        id: GenerationId,
        cgroup: &Cgroup,
        judged: &Judged,
        deadline: &mut Deadline,
    ) -> Option<u64> {
        let told = match deadline.left() {
            Some(_) => Signalled::Early,
            None => Signalled::Late,
        };
        match told {
            Signalled::Late if judged.recipe.may_finish() => *deadline = Deadline::after(FINISH),
            Signalled::Late => self.leaving.cut_due(id).await,
            Signalled::Early => {}
        }
        self.leaving
            .told_and_gone(id, cgroup, judged, *deadline, told)
            .await
    }

    /// Ends a candidate that did not become ready.
    pub(in crate::agent::service) fn discard(
        &self,
        registry: &mut Registry,
        id: GenerationId,
        why: String,
    ) {
        self.seats.retire_from_kernel(registry, id);
        if let Some(generation) = registry.get_mut(id) {
            generation.enter(GenerationState::Failed, Some(why));
            if let Err(error) = generation.cgroup().kill() {
                tracing::error!(%error, generation = generation.name(), "failed to kill a candidate");
            }
        }
        self.state.settle(registry);
    }

    /// What was to end a generation in order broke: it gets its signal all the same, and what is
    /// left at the deadline is killed.
    pub(super) async fn end_broke(&self, id: GenerationId, broken: Broken) {
        let (cgroup, deadline, error) = {
            let registry = self.state.lock().await;
            let Some(generation) = registry.get(id) else {
                return;
            };
            let error = broken.of_verb(format!("the end of {}", generation.name()));
            let drain = generation.drain();
            let deadline = drain.map_or_else(|| Deadline::after(BY_ITSELF), Drain::deadline);
            (generation.cgroup().clone(), deadline, error)
        };
        tracing::error!(service = self.name(), %error, "a bug aborted the end of a generation");
        // Unless that is what broke: the deadline ends it then.
        let _told = unbroken(async {
            if let Some(judged) = self.endings.judge(self, &self.state, id).await {
                self.teller.tell_to_end(id, &judged).await;
            }
        })
        .await;
        let gone = gone(&self.state, id, &cgroup);
        let ended = tokio::time::timeout_at(deadline.instant(), gone).await;
        if ended.is_err()
            && let Err(error) = kill_rest(&self.state, id, &cgroup).await
        {
            tracing::error!(
                %error,
                cgroup = %cgroup.path().display(),
                "failed to kill the processes of a generation after a bug"
            );
        }
        self.leaving.await_gone(id, &cgroup).await;
        let mut registry = self.state.lock().await;
        self.seats.retire_from_kernel(&mut registry, id);
        if let Some(generation) = registry.get_mut(id)
            && generation.state() == GenerationState::Stopping
        {
            generation.undrain();
            let (state, _why) = generation.last_state();
            generation.enter(state, Some(error.summary()));
        }
        self.state.settle(&registry);
    }
}
