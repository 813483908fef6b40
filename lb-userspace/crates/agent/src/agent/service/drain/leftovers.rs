//! When a server is told to end, and what becomes of what is left at the deadline.

use std::{sync::Arc, time::Duration};

use lb_common::GenerationId;

use super::{
    super::{
        Context,
        datagrams::Datagrams,
        ending::{Endings, Judged, Teller, place, signal_wait},
        polite::PoliteDrain,
        processes,
        registry::{Generation, Registry},
        shared::SharedState,
    },
    DrainStep, Leaving,
};
use crate::{
    clock::{self, Deadline},
    config::Leftovers,
    rollout::recipe::{Effect, Recipe},
    sys::cgroup::Cgroup,
};

/// How long killed processes may take to be gone.
const GONE: Duration = Duration::from_secs(5);
/// How long a server has to end by itself once its last connections were ended.
const LAST: Duration = Duration::from_millis(500);
/// How long a server that gets its signal at the deadline has to finish what is under way.
pub(in crate::agent::service) const FINISH: Duration = Duration::from_millis(250);
/// How long such a one has to end: a data store saves what it has.
const LATE: Duration = Duration::from_secs(5);
/// Longer than any connection.
const WITHOUT_END: Duration = Duration::from_hours(24 * 365);

/// When a server was signalled to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::agent::service) enum Signalled {
    /// Before its deadline.
    Early,
    /// At its deadline: it may still end in order.
    Late,
}

impl Leaving {
    /// Those of a service.
    pub(in crate::agent::service) fn new(
        context: &Arc<Context>,
        state: &SharedState,
        polite: &PoliteDrain,
        endings: &Endings,
    ) -> Self {
        Self {
            context: Arc::clone(context),
            state: state.clone(),
            polite: polite.clone(),
            endings: endings.clone(),
            datagrams: Datagrams::new(context, state, endings),
            teller: Teller::new(context, state),
        }
    }

    /// How the generation is told to end.
    pub(in crate::agent::service) async fn recipe(&self, id: GenerationId) -> Option<Recipe> {
        Some(self.endings.judge(self, &self.state, id).await?.recipe)
    }

    /// Until when connections may end by themselves: for `signal_after`; until the deadline where
    /// the signal would cut them or may do so, and without end where nothing is to be cut.
    pub(in crate::agent::service) async fn signal_time(
        &self,
        id: GenerationId,
    ) -> Option<Deadline> {
        let recipe = self.recipe(id).await?;
        let wait = signal_wait(&self.config.drain, &recipe).unwrap_or(WITHOUT_END);
        let registry = self.state.lock().await;
        let began = registry.get(id)?.drain()?.began();
        Some(Deadline::since(began, wait))
    }

    /// Waits until the generation's processes are gone, ending what is left at the deadline.
    /// Says how many connections were cut.
    pub(in crate::agent::service) async fn gone_by(
        self: &Arc<Self>,
        id: GenerationId,
        cgroup: &Cgroup,
        deadline: Deadline,
        saves_until: Option<Deadline>,
        told: Signalled,
    ) -> Option<u64> {
        let grace = match told {
            Signalled::Early => LAST,
            Signalled::Late => LATE,
        };
        let gone = processes::gone(&self.state, id, cgroup);
        if tokio::time::timeout_at(deadline.instant(), gone)
            .await
            .is_ok()
        {
            return None;
        }
        let mut cut = 0;
        if self.config.drain.leftovers == Leftovers::Keep
            && !self.state.look(Registry::is_ending).await
        {
            self.enter_step(id, DrainStep::LongLived).await;
            // For as long as they last; the operator said so.
            let _unwatched = processes::gone(&self.state, id, cgroup).await;
            return None;
        }
        if let Some((later, ended)) = self.spare_long_lived(id).await {
            cut += ended;
            let gone = processes::gone(&self.state, id, cgroup);
            if tokio::time::timeout_at(later.instant(), gone).await.is_ok() {
                return Some(cut);
            }
        }
        cut += self.cut(id, false).await;
        if let Some(until) = saves_until {
            self.enter_saving(id, until).await;
        }
        let saves = saves_until.and_then(Deadline::left).unwrap_or_default();
        self.kill(id, cgroup, grace.max(saves)).await;
        Some(cut)
    }

    /// Tells the generation to end and waits until its processes are gone, as [`Self::gone_by`].
    pub(in crate::agent::service) async fn told_and_gone(
        self: &Arc<Self>,
        id: GenerationId,
        cgroup: &Cgroup,
        judged: &Judged,
        deadline: Deadline,
        told: Signalled,
    ) -> Option<u64> {
        let says_goodbye =
            judged.recipe.caught && self.datagrams.flows(id) > 0 && deadline.left().is_some();
        if !says_goodbye {
            self.datagrams.last_datagrams(id, cgroup).await;
        }
        let watched = self.teller.watch_connections(id, &judged.recipe).await;
        self.teller.tell_to_end(id, judged).await;
        let saves_until = self.saves_until(id, judged).await;
        let ending = async {
            if says_goodbye {
                self.datagrams.say_goodbye(id, cgroup, deadline).await;
            }
            let gone = processes::gone(&self.state, id, cgroup);
            let ended = tokio::time::timeout_at(deadline.instant(), gone).await;
            if let Some(watched) = watched {
                self.teller
                    .note_outcome(id, judged, watched, ended.is_ok())
                    .await;
            }
            self.gone_by(id, cgroup, deadline, saves_until, told).await
        };
        tokio::select! {
            cut = ending => cut,
            never = self.teller.tell_the_rest(id, judged) => match never {},
        }
    }

    /// Until when a data store may save what it has, from its signal on.
    async fn saves_until(&self, id: GenerationId, judged: &Judged) -> Option<Deadline> {
        if !judged.recipe.saves {
            return None;
        }
        let told = Duration::from_secs(self.state.lock().await.get(id)?.end().signalled()?);
        let passed = clock::since_boot().saturating_sub(told);
        let left = self.config.drain.stop_deadline.saturating_sub(passed);
        let until = Deadline::after(left);
        // Its connections may finish before that, and are waited for first.
        if judged.recipe.effect != Effect::Finishes {
            self.enter_saving(id, until).await;
        }
        Some(until)
    }

    /// How much longer a data store may save what it has, while it does.
    pub(in crate::agent::service) async fn saves_for(&self, id: GenerationId) -> Option<Duration> {
        let registry = self.state.lock().await;
        let drain = registry.get(id)?.drain()?;
        drain
            .saves()
            .then(|| drain.deadline().left().unwrap_or_default())
    }

    async fn enter_saving(&self, id: GenerationId, until: Deadline) {
        let mut registry = self.state.lock().await;
        if let Some(drain) = registry.get_mut(id).and_then(Generation::drain_mut) {
            drain.enter_until(DrainStep::Saving, until);
        }
    }

    /// Ends what may not stay longer than the deadline. Until when the rest may, if there is any,
    /// and how many were ended.
    pub(in crate::agent::service) async fn spare_long_lived(
        self: &Arc<Self>,
        id: GenerationId,
    ) -> Option<(Deadline, u64)> {
        let later = self.long_lived_deadline(id).await?;
        let ended = self.cut(id, true).await;
        let mut registry = self.state.lock().await;
        if let Some(drain) = registry.get_mut(id).and_then(Generation::drain_mut) {
            drain.enter_until(DrainStep::LongLived, later);
        }
        Some((later, ended))
    }

    /// When long-lived connections are ended, if they may stay longer and there are any.
    pub(super) async fn long_lived_deadline(
        self: &Arc<Self>,
        id: GenerationId,
    ) -> Option<Deadline> {
        let long = self.config.drain.long_lived?;
        if self.state.look(Registry::is_ending).await {
            return None;
        }
        let began = self.state.lock().await.get(id)?.drain()?.began();
        let later = Deadline::since(began, long.deadline);
        later.left()?;
        let stay = self
            .left(id, |age| age.is_none_or(|age| age >= long.after))
            .await;
        (!stay.is_empty()).then_some(later)
    }

    /// Kills what is left, and waits until it is gone. A server whose last connections have been
    /// ended may end in order before that, for `grace`.
    async fn kill(&self, id: GenerationId, cgroup: &Cgroup, grace: Duration) {
        let ended = tokio::time::timeout(grace, processes::gone(&self.state, id, cgroup)).await;
        if ended.is_ok() {
            return;
        }
        if let Err(error) = processes::kill_rest(&self.state, id, cgroup).await {
            tracing::error!(
                %error,
                cgroup = %cgroup.path().display(),
                "failed to kill leftover processes of a generation"
            );
        }
        self.await_gone(id, cgroup).await;
    }

    /// Waits until killed processes are gone.
    pub(in crate::agent::service) async fn await_gone(&self, id: GenerationId, cgroup: &Cgroup) {
        let gone = tokio::time::timeout(GONE, processes::gone(&self.state, id, cgroup)).await;
        if gone.is_err() {
            tracing::error!(
                cgroup = %cgroup.path().display(),
                "processes of a generation were killed but have not ended"
            );
        }
    }

    /// What of a generation serves on in somebody else's cgroup, although its first process has ended.
    /// Nobody ends it: its supervisor may have started it in the meantime, with the same sockets.
    pub(in crate::agent::service) async fn left_outside(&self, id: GenerationId) -> Option<String> {
        let (place, listeners) = {
            let registry = self.state.lock().await;
            let generation = registry.get(id)?;
            if !generation.cgroup().is_foreign() || generation.main_runs() {
                return None;
            }
            (place(self, generation), generation.slots().cookies())
        };
        let looking = tokio::task::spawn_blocking(move || place.holding(&listeners));
        let left = looking.await.unwrap_or_default();
        let (first, others) = left.split_first()?;
        let pids = others.iter().map(|other| format!(", {}", other.pid));
        Some(format!(
            "{} (pid {}{}) still serves, although the first process has ended: hotlb does not end \
             processes that may be its supervisor's by now; end it by hand",
            first.program.name,
            first.pid,
            pids.collect::<String>()
        ))
    }

    pub(in crate::agent::service) async fn enter_step(&self, id: GenerationId, step: DrainStep) {
        let mut registry = self.state.lock().await;
        if let Some(drain) = registry.get_mut(id).and_then(Generation::drain_mut) {
            drain.enter(step);
        }
    }
}
