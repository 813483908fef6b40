//! Ending a generation: signal, deadline, kill.

use std::{sync::Arc, time::Duration};

use lb_common::{GenerationId, SteeringWord};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{Pace, Service, VerbError, books::Books, report::Reporter};
use crate::{
    api::wire::Done,
    clock::{self, Deadline},
    generation::life,
    rollout::{self, GenerationState, recipe},
    store::Ledger,
    sys::process,
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
            let mut books = self.books.lock().await;
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
            reporter.step(format!("clients wait; {name} finishes what it has"));
            let limit = Deadline::after(self.config.drain.signal_after);
            let mut pace = Pace::until(limit);
            while self.path.live(Some(id)) > 0 && self.look_again(&mut pace).await {}
        }
        reporter.step(format!("stopping {name}"));
        self.end(id).await;
        let books = self.books.lock().await;
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
        let mut pace = Pace::until(Deadline::after(self.config.drain.deadline + 2 * GONE));
        loop {
            let state = self.books.lock().await.get(id).map(|g| g.state);
            if state != Some(GenerationState::Stopping) || !self.look_again(&mut pace).await {
                return;
            }
        }
    }

    /// Has every new client wait: nobody is active, nobody stands in.
    fn park_everybody(&self, books: &mut Books, active: GenerationId) {
        self.path.steer(SteeringWord::default());
        books.previous = Some(active);
        if let Some(generation) = books.get_mut(active) {
            generation.enter(GenerationState::Draining, None);
        }
        self.settle(books);
    }

    /// Ends a generation without anybody waiting for it.
    pub(super) fn stop_in_background(self: &Arc<Self>, books: &mut Books, id: GenerationId) {
        if let Some(generation) = books.get_mut(id)
            && generation.state.is_live()
            && generation.state != GenerationState::Active
        {
            generation.undrain();
            generation.enter(GenerationState::Stopping, None);
            self.word_follows(books);
        }
        let service = Arc::clone(self);
        tokio::spawn(async move { service.end(id).await });
    }

    /// Takes it out of the choice and marks it; from here on no connection reaches it. Says whose
    /// it is to end it.
    fn begin_stop(&self, books: &mut Books, id: GenerationId) -> Ending {
        let going_down = books.ending;
        let Some(generation) = books.get_mut(id) else {
            return Ending::NotToBe;
        };
        if generation.state == GenerationState::Active && !going_down {
            return Ending::NotToBe; // it was promoted meanwhile
        }
        if generation.state.is_live() && generation.state != GenerationState::Stopping {
            generation.undrain();
            generation.enter(GenerationState::Stopping, None);
            self.word_follows(books);
        }
        match books.get_mut(id) {
            Some(generation) if generation.being_ended => Ending::Others,
            Some(generation) => {
                generation.being_ended = generation.state.is_live();
                Ending::Ours
            }
            None => Ending::NotToBe,
        }
    }

    /// Ends a generation and waits until it is gone: its signal to its first process, then
    /// SIGKILL to all of it at the deadline.
    pub(super) async fn end(self: &Arc<Self>, id: GenerationId) {
        let (cgroup, main, signal, told) = {
            let mut books = self.books.lock().await;
            let ending = self.begin_stop(&mut books, id);
            self.settle(&mut books);
            match ending {
                Ending::Ours => {}
                Ending::NotToBe => return,
                Ending::Others => {
                    drop(books);
                    return self.await_end(id).await;
                }
            }
            let Some(generation) = books.get(id) else {
                return;
            };
            let program = generation.command.first().map_or("", String::as_str);
            let signal = self.config.drain.signal;
            (
                generation.cgroup.clone(),
                generation.main,
                signal.unwrap_or_else(|| recipe::graceful_signal(program)),
                generation.told,
            )
        };
        let limit = self.config.drain.deadline;
        // An earlier agent may have told it already.
        let passed = told.map_or(0, |told| clock::unix_seconds().saturating_sub(told));
        let deadline = Deadline::after(limit.saturating_sub(Duration::from_secs(passed)));
        let mut cut = None;
        if cgroup.is_populated() {
            match main.filter(|&(pid, start)| process::start_time(pid) == Some(start)) {
                _ if told.is_some() => {}
                Some((pid, _)) => send(pid, signal),
                None => cgroup.signal(signal),
            }
            self.was_told(id).await;
            let gone = tokio::time::timeout_at(deadline.instant(), life::emptied(&cgroup)).await;
            if gone.is_err() {
                cut = Some(self.path.live(Some(id)));
                if let Err(error) = cgroup.kill() {
                    tracing::error!(%error, cgroup = %cgroup.path().display(), "cannot kill");
                }
                let gone = tokio::time::timeout(GONE, life::emptied(&cgroup)).await;
                if gone.is_err() {
                    tracing::error!(cgroup = %cgroup.path().display(), "does not go away");
                }
            }
        }
        let mut books = self.books.lock().await;
        self.retire_from_kernel(&mut books, id);
        if let Some(generation) = books.get_mut(id)
            && generation.state == GenerationState::Stopping
        {
            let reason = cut.map(|cut| {
                let limit = humantime::format_duration(self.config.drain.deadline);
                format!("killed after {limit}, {cut} connections cut")
            });
            generation.cut = cut;
            generation.enter(GenerationState::Stopped, reason);
        }
        self.settle(&mut books);
    }

    /// Writes down that a generation was sent its signal.
    async fn was_told(&self, id: GenerationId) {
        let mut books = self.books.lock().await;
        if let Some(generation) = books.get_mut(id) {
            generation.told.get_or_insert_with(clock::unix_seconds);
            self.settle(&mut books);
        }
    }

    /// Ends everything the service has, and removes what it left on the host.
    ///
    /// # Errors
    ///
    /// When the keeper does not answer or the pins cannot be removed.
    pub async fn down(self: &Arc<Self>) -> Result<(), VerbError> {
        {
            let mut books = self.books.lock().await;
            // Nobody takes over: the active one is ended too, and the keeper is not started again.
            books.ending = true;
            books.previous = None;
            self.path.steer(SteeringWord::default());
        }
        // A deploy that began before finds out when it is done, and ends what it started.
        loop {
            let living: Vec<GenerationId> = {
                let books = self.books.lock().await;
                let living = books.generations.iter().filter(|g| g.state.is_live());
                living.map(|g| g.id).collect()
            };
            if living.is_empty() {
                break;
            }
            futures_util::future::join_all(living.into_iter().map(|id| self.end(id))).await;
        }
        if let Err(error) = self.keeper().quit() {
            tracing::warn!(%error, "the keeper was gone already");
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
            tracing::warn!(%error, cgroup = %cgroup.path().display(), "the cgroup stays");
        }
        self.books.lock().await.over = true;
        if let Err(error) = Ledger::remove(&self.places.ledger(self.name())) {
            tracing::warn!(%error, "the ledger stays");
        }
        Ok(())
    }

    /// Its row and its cgroup. Its seat stays its own until another generation takes it: its last
    /// connections close later than its processes end.
    pub(super) fn retire_from_kernel(&self, books: &mut Books, id: GenerationId) {
        for group in self.path.groups() {
            group.unregister(id);
        }
        let Some(generation) = books.get_mut(id) else {
            return;
        };
        generation.steered.clear();
        if !generation.cgroup.is_populated()
            && let Err(error) = generation.cgroup.remove()
        {
            tracing::debug!(%error, "the cgroup stays for now");
        }
    }
}

fn send(pid: u32, signal: Signal) {
    let Ok(raw) = i32::try_from(pid) else {
        return;
    };
    if let Err(error) = kill(Pid::from_raw(raw), signal) {
        tracing::debug!(pid, %error, "it was gone before the signal");
    }
}
