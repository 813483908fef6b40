//! A drain, from its begin to the standby or the end.

use std::{sync::Arc, time::Duration};

use lb_common::GenerationId;

use super::{
    super::{
        broken::{Broken, unbroken},
        drain::{Drain, DrainStep},
        ending::signal_wait,
        freeze,
        pace::Pace,
        recount,
        registry::Registry,
    },
    Lives,
};
use crate::{
    agent::drill,
    clock::{self, Deadline},
    rollout::GenerationState,
};

/// How often a drain that waits asks the kernel whether those are there it waits for.
const COMPARED: Duration = Duration::from_millis(250);

impl Lives {
    /// Drains a generation in the background. Its connections, those in its accept queues
    /// included, may end by themselves for `signal_after`; a generation that has none left runs
    /// on as standby, any other is told to end.
    pub(in crate::agent::service) fn drain(
        self: &Arc<Self>,
        registry: &mut Registry,
        id: GenerationId,
    ) {
        let live = self.datagrams.clients(id);
        let Some(generation) = registry.get_mut(id) else {
            return;
        };
        // One that drains already goes on where it was.
        let since = generation.drain().map(Drain::since);
        let since = since.filter(|_| generation.state() == GenerationState::Draining);
        generation.undrain();
        if !generation.state().can_serve() {
            return; // it ended, or is being ended
        }
        if generation.state() != GenerationState::Draining {
            generation.enter(GenerationState::Draining, None);
        }
        let lives = Arc::clone(self);
        let task = tokio::spawn(async move {
            if let Err(broken) = unbroken(lives.drained(id)).await {
                lives.drain_broke(id, broken).await;
            }
        });
        let deadline = self.config.drain.deadline;
        generation.begin_drain(Drain::begin(
            since.unwrap_or_else(clock::since_boot),
            live,
            deadline,
            task.abort_handle(),
        ));
    }

    async fn drained(self: &Arc<Self>, id: GenerationId) {
        drill::point("leaving");
        let hung = self.leaving.empty_queues(id).await;
        self.leave_by_themselves(id).await;
        let hung = hung.or(self.datagrams.flows_leave(id).await);
        let mut registry = self.state.lock().await;
        let Some(generation) = registry.get_mut(id) else {
            return;
        };
        if generation.state() != GenerationState::Draining {
            return;
        }
        if let Some(hung) = &hung {
            generation.explain(hung.clone());
        }
        let kept = self.config.keep.keeps() && hung.is_none() && !generation.is_condemned();
        // Flows that are left have a server that can say goodbye to them.
        if self.path.live(Some(id)) == 0 && self.datagrams.flows(id) == 0 && kept {
            generation.undrain();
            generation.enter(GenerationState::Standby, None);
            freeze::freeze(self, &mut registry, id);
        } else {
            self.stop_in_background(&mut registry, id);
        }
        self.state.settle(&registry);
    }

    /// Waits until the generation has no connection left, or for as long as the server is not to
    /// be told to end; HTTP/1 clients are asked to leave meanwhile.
    async fn leave_by_themselves(self: &Arc<Self>, id: GenerationId) {
        let Some(until) = self.leaving.signal_time(id).await else {
            return;
        };
        self.leaving.enter_step(id, DrainStep::Leaving).await;
        let mut pace = Pace::until(until);
        let mut compared = Deadline::after(COMPARED);
        while self.path.live(Some(id)) > 0 {
            if compared.left().is_none() {
                if recount::compare(&self.context, &self.state, id).await {
                    self.state.ring();
                }
                compared = Deadline::after(COMPARED);
            }
            self.polite.ask(&self.context, &self.state, id).await;
            if !self.state.look_again(&mut pace).await {
                return self.long_lived_leave(id).await;
            }
        }
    }

    /// Beyond the deadline of a server whose signal cuts its clients: waits for those that may
    /// stay longer, and ends the others. Does nothing before the deadline.
    async fn long_lived_leave(self: &Arc<Self>, id: GenerationId) {
        let deadline = {
            let registry = self.state.lock().await;
            registry.get(id).and_then(|g| Some(g.drain()?.deadline()))
        };
        if deadline.is_none_or(|deadline| deadline.left().is_some()) {
            return;
        }
        if self.leaving.recipe(id).await.is_none_or(|recipe| {
            signal_wait(&self.config.drain, &recipe) < Some(self.config.drain.deadline)
        }) {
            return;
        }
        let Some((later, _ended)) = self.leaving.spare_long_lived(id).await else {
            return;
        };
        let mut pace = Pace::until(later);
        while self.path.live(Some(id)) > 0 && self.state.look_again(&mut pace).await {}
    }

    /// A drain broke: whoever is still there is told to end, and has until the deadline.
    pub(in crate::agent::service) async fn drain_broke(
        self: &Arc<Self>,
        id: GenerationId,
        broken: Broken,
    ) {
        let mut registry = self.state.lock().await;
        let name = registry.name_of(id);
        let error = broken.of_verb(format!("the drain of {name}"));
        tracing::error!(service = self.name(), %error, "a bug aborted a drain");
        if let Some(generation) = registry.get_mut(id)
            && generation.state() == GenerationState::Draining
        {
            generation.explain(error.summary());
            self.stop_in_background(&mut registry, id);
        }
        self.state.settle(&registry);
    }
}
