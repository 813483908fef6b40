//! Ending a generation: signal, deadline, kill.

use std::{sync::Arc, time::Duration};

use lb_common::GenerationId;

use super::{
    Service, VerbError,
    books::{Books, Going},
    broken::unbroken,
    drain::{Drain, DrainStep, FINISH, Told},
    exec_check::hooks_cgroup,
    outlet,
    pace::Pace,
    report::Reporter,
};
use crate::{
    agent::drill,
    api::wire::Done,
    clock::Deadline,
    generation::{hook, life},
    rollout::{self, GenerationState},
};

/// How long killed processes may take to be gone.
const GONE: Duration = Duration::from_secs(5);

/// Longest wait of `down` for a deploy or a rollout, its hooks included, to have ended.
const CALLED_OFF: Duration = Duration::from_secs(30);

/// Whose it is to end a generation.
enum Ending {
    /// The caller's.
    Ours,
    /// Somebody's who has begun already.
    Others,
    /// Nobody's: it is gone, or active.
    NotToBe,
}

impl Service {
    /// Ends a generation. The active one only with `park`: then new clients wait from here on,
    /// until another generation is promoted.
    ///
    /// # Errors
    ///
    /// [`VerbError::ActiveStop`] for the active one without `park`.
    pub async fn stop(
        self: &Arc<Self>,
        name: &str,
        park: bool,
        reporter: &Reporter,
    ) -> Result<Done, VerbError> {
        let id = self.find(name).await?;
        let is_active = {
            let mut books = self.state.lock().await;
            let is_active = books.get(id).is_some_and(|g| rollout::cannot_stop(g.state));
            if is_active && !park {
                return Err(VerbError::ActiveStop(name.to_owned()));
            }
            if is_active {
                self.park_everybody(&mut books, id);
            }
            is_active
        };
        if is_active {
            reporter.step(format!("clients wait; {name} finishes its requests"));
            self.finish_in_flight(id).await;
        }
        reporter.step(format!("stopping {name}"));
        self.end(id).await;
        let books = self.state.lock().await;
        if books.get(id).is_some_and(|g| rollout::cannot_stop(g.state)) {
            return Err(VerbError::ActiveStop(name.to_owned())); // promoted meanwhile
        }
        let reason = books.get(id).and_then(|g| g.reason.clone());
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
                .look(|books| books.get(id).map(|g| g.state))
                .await;
            if state != Some(GenerationState::Stopping) || !self.state.look_again(&mut pace).await {
                return;
            }
        }
    }

    /// Has every new client wait: nobody is active, nobody stands in.
    pub(super) fn park_everybody(&self, books: &mut Books, active: GenerationId) {
        books.steering.park(active);
        if let Some(generation) = books.get_mut(active) {
            generation.enter(GenerationState::Draining, None);
        }
        self.state.settle(books);
    }

    /// Ends a generation without anybody waiting for it.
    pub(super) fn stop_in_background(self: &Arc<Self>, books: &mut Books, id: GenerationId) {
        self.mark_stopping(books, id);
        let service = Arc::clone(self);
        tokio::spawn(async move { service.end(id).await });
    }

    /// Takes it out of the choice: from here on no connection reaches it.
    fn mark_stopping(self: &Arc<Self>, books: &mut Books, id: GenerationId) {
        let deadline = self.config.drain.deadline;
        let live = self.clients(id);
        let going_down = books.is_ending();
        let Some(generation) = books.get_mut(id) else {
            return;
        };
        let can_stop = generation.state != GenerationState::Active || going_down;
        if !can_stop
            || matches!(generation.state, GenerationState::Stopping)
            || !generation.state.is_live()
        {
            return;
        }
        match &mut generation.drain {
            // Its time began with the drain.
            Some(drain) if !going_down => {
                drain.abort();
                drain.step = DrainStep::Finishing;
            }
            _ => {
                generation.undrain();
                generation.drain = Some(Drain::end_now(live, deadline));
            }
        }
        let reason = generation.reason.take();
        generation.enter(GenerationState::Stopping, reason);
        self.word_follows(books);
    }

    /// Says whose it is to end a generation.
    fn begin_stop(self: &Arc<Self>, books: &mut Books, id: GenerationId) -> Ending {
        self.mark_stopping(books, id);
        match books.get_mut(id) {
            None => Ending::NotToBe,
            Some(generation) if generation.state == GenerationState::Active => Ending::NotToBe,
            Some(generation) if generation.being_ended => Ending::Others,
            Some(generation) => {
                generation.being_ended = generation.state.is_live();
                Ending::Ours
            }
        }
    }

    /// Ends a generation and waits until it is gone: its signal to its first process, then, at
    /// the deadline, what the operator wants done with what is left.
    pub(super) async fn end(self: &Arc<Self>, id: GenerationId) {
        let ending = self
            .state
            .change(|books| {
                let ending = self.begin_stop(books, id);
                self.state.settle(books);
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
        let (name, cgroup, deadline) = {
            let books = self.state.lock().await;
            let Some(generation) = books.get(id) else {
                return;
            };
            let deadline = generation.drain.as_ref().map(|drain| drain.deadline);
            (generation.name.clone(), generation.cgroup.clone(), deadline)
        };
        let mut deadline = deadline.unwrap_or_else(|| Deadline::after(self.config.drain.deadline));
        let mut cut = None;
        if cgroup.is_populated() {
            let told = match deadline.left() {
                Some(_) => Told::Early,
                None => Told::Late,
            };
            match told {
                Told::Late if judged.recipe.may_finish() => deadline = Deadline::after(FINISH),
                Told::Late => self.cut_due(id).await,
                Told::Early => {}
            }
            cut = self
                .told_and_gone(id, &cgroup, &judged, deadline, told)
                .await;
        }
        // Who is told that it ended finds its last words in its file.
        outlet::settled(self, &name).await;
        let left = self.left_outside(id).await;
        let mut books = self.state.lock().await;
        self.retire_from_kernel(&mut books, id);
        if let Some(generation) = books.get_mut(id)
            && generation.state == GenerationState::Stopping
        {
            let took = generation.drain.as_ref().map(|drain| drain.began.elapsed());
            let took = Duration::from_secs(took.unwrap_or_default().as_secs());
            let limit = humantime::format_duration(took);
            // Some by an earlier agent, perhaps.
            let listed = generation.cut_list.len() as u64;
            let cut = match listed {
                0 => cut,
                listed => Some(cut.unwrap_or_default().max(listed)),
            };
            let reason = match (cut, &generation.signal_cut) {
                (Some(cut), _) => Some(format!("ended after {limit}, {cut} connections cut")),
                (None, Some(advice)) => Some(advice.clone()),
                (None, None) => generation.reason.take(),
            };
            let reason = match (reason, &left) {
                (Some(reason), Some(left)) => Some(format!("{reason}; {left}")),
                (reason, left) => reason.or_else(|| left.clone()),
            };
            generation.left = left;
            generation.cut = cut;
            generation.undrain();
            // A candidate that a rollout got rid of makes room for the next of its name.
            let (state, reason) = match generation.failed.take() {
                Some(why) => (GenerationState::Failed, Some(why)),
                None => (GenerationState::Stopped, reason),
            };
            generation.enter(state, reason);
        }
        self.state.settle(&books);
    }

    /// Ends everything the service has, and removes what it left on the host.
    ///
    /// # Errors
    ///
    /// When the pins cannot be removed. Says what serves on all the same.
    pub async fn down(self: &Arc<Self>) -> Result<Vec<String>, VerbError> {
        let mut left = Vec::new();
        self.state
            .change(|books| {
                // Nobody takes over: the active one is ended too, and the keeper is not started again.
                books.going = Going::Down;
                books.steering.set_previous(None);
                books.steering.lead_nowhere();
            })
            .await;
        self.call_everything_off().await;
        loop {
            let living: Vec<GenerationId> = self
                .state
                .look(|books| {
                    let living = books.generations.iter().filter(|g| g.state.is_live());
                    living.map(|g| g.id).collect()
                })
                .await;
            if living.is_empty() {
                break;
            }
            let all = living.iter().map(|&id| self.end(id));
            futures_util::future::join_all(all).await;
            let books = self.state.lock().await;
            let ended = living.iter().filter_map(|&id| books.get(id));
            left.extend(ended.filter_map(|ended| {
                let left = ended.left.as_ref()?;
                Some(format!("{}: {left}", ended.name))
            }));
        }
        if let Err(error) = self.parking.keeper().quit().await {
            tracing::warn!(%error, "failed to end the keeper");
        }
        self.path.pins().remove()?;
        let cgroup = &self.cgroup;
        let gone = tokio::time::timeout(GONE, life::emptied(cgroup)).await;
        let removed = match gone {
            Ok(Ok(())) => cgroup.remove(),
            Ok(Err(error)) => Err(error),
            Err(_elapsed) => Err(std::io::Error::other("processes are left in it")),
        };
        if let Err(error) = removed {
            tracing::warn!(
                %error,
                cgroup = %cgroup.path().display(),
                "failed to remove the cgroup"
            );
        }
        self.state.change(|books| books.going = Going::Gone).await;
        if let Err(error) = self.state.ledger().remove().await {
            left.push(format!(
                "{error}; remove it before the service is started again, or its generations are \
                 listed as ended"
            ));
            tracing::warn!(%error, "failed to remove the ledger");
        }
        Ok(left)
    }

    /// Has a deploy or a rollout that goes on end, so that nothing is started any more.
    async fn call_everything_off(self: &Arc<Self>) {
        let starting = self
            .state
            .look(|books| {
                if let Some(rollout) = &books.rollout {
                    rollout.undo("the service is shutting down");
                }
                let starting = books
                    .generations
                    .iter()
                    .filter(|g| g.state == GenerationState::Starting);
                starting.map(|g| g.id).collect::<Vec<_>>()
            })
            .await;
        futures_util::future::join_all(starting.into_iter().map(|id| self.end(id))).await;
        let mut pace = Pace::until(Deadline::after(CALLED_OFF));
        while self.state.look_again(&mut pace).await {
            if self.is_at_rest().await {
                return;
            }
        }
        tracing::error!(
            service = self.name(),
            "a rollout did not end in time; killing its hooks"
        );
        let mut pace = Pace::until(Deadline::after(GONE));
        while !self.is_at_rest().await {
            hook::sweep(&hooks_cgroup(&self.cgroup)).await;
            if !self.state.look_again(&mut pace).await {
                return;
            }
        }
    }

    /// Whether nothing is being deployed, and no rollout is before its drain.
    async fn is_at_rest(&self) -> bool {
        let books = self.state.lock().await;
        books.deploying.is_none() && books.rollout.is_none()
    }

    /// Its row and its cgroup. Its seat stays its own until another generation takes it: its last
    /// connections close later than its processes end.
    pub(super) fn retire_from_kernel(&self, books: &mut Books, id: GenerationId) {
        for group in self.path.all_groups() {
            group.unregister(id);
        }
        let Some(generation) = books.get_mut(id) else {
            return;
        };
        generation.steered.clear();
        generation.datagrams.clear();
        if !generation.cgroup.is_populated()
            && let Err(error) = generation.cgroup.remove()
        {
            tracing::debug!(%error, "failed to remove the cgroup");
        }
    }
}
