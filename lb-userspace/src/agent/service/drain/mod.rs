//! Drain: from "gets no new connection" to "has none left".
//!
//! In order, each step as short as the kernel's own counts allow: the accept queues empty, or are
//! moved; HTTP/1 clients are asked to leave; the server's signal; the deadline, with what is done
//! about the leftovers. Several generations drain at once, each by a task of its own.

mod cut;
mod leftovers;
mod progress;
mod queue;

use std::{sync::Arc, time::Duration};

use lb_common::GenerationId;

pub(super) use leftovers::{FINISH, Told};
pub(super) use progress::{Drain, DrainStep};

use super::{
    Service, books::Books, broken::unbroken, ending::signal_wait, freeze, pace::Pace, recount,
};
use crate::{
    agent::drill,
    clock::{self, Deadline},
    rollout::GenerationState,
};

/// How often a drain that waits asks the kernel whether those are there it waits for.
const COMPARED: Duration = Duration::from_millis(250);

impl Service {
    /// Drains a generation in the background. Its connections, those in its accept queues
    /// included, may end by themselves for `signal_after`; a generation that has none left runs
    /// on as standby, any other is told to end.
    pub(super) fn drain(self: &Arc<Self>, books: &mut Books, id: GenerationId) {
        let live = self.clients(id);
        let Some(generation) = books.get_mut(id) else {
            return;
        };
        // One that drains already goes on where it was.
        let since = generation.drain.as_ref().map(|drain| drain.since);
        let since = since.filter(|_| generation.state == GenerationState::Draining);
        generation.undrain();
        if !generation.state.can_serve() {
            return; // it ended, or is being ended
        }
        if generation.state != GenerationState::Draining {
            generation.enter(GenerationState::Draining, None);
        }
        let service = Arc::clone(self);
        let task = tokio::spawn(async move {
            if let Err(broken) = unbroken(service.drained(id)).await {
                service.drain_broke(id, broken).await;
            }
        });
        let deadline = self.config.drain.deadline;
        generation.drain = Some(Drain::begin(
            since.unwrap_or_else(clock::since_boot),
            live,
            deadline,
            task.abort_handle(),
        ));
    }

    async fn drained(self: &Arc<Self>, id: GenerationId) {
        drill::point("leaving");
        let hung = self.empty_queues(id).await;
        self.leave_by_themselves(id).await;
        let hung = hung.or(self.flows_leave(id).await);
        let mut books = self.state.lock().await;
        let Some(generation) = books.get_mut(id) else {
            return;
        };
        if generation.state != GenerationState::Draining {
            return;
        }
        if let Some(hung) = &hung {
            generation.reason = Some(hung.clone());
        }
        let kept = self.config.keep.keeps() && hung.is_none() && generation.failed.is_none();
        // Flows that are left have a server that can say goodbye to them.
        if self.path.live(Some(id)) == 0 && self.flows(id) == 0 && kept {
            generation.undrain();
            generation.enter(GenerationState::Standby, None);
            freeze::freeze(self, &mut books, id);
        } else {
            self.stop_in_background(&mut books, id);
        }
        self.state.settle(&books);
    }

    /// Waits until the generation has no connection left, or for as long as the server is not to
    /// be told to end; HTTP/1 clients are asked to leave meanwhile.
    async fn leave_by_themselves(self: &Arc<Self>, id: GenerationId) {
        let Some(until) = self.signal_time(id).await else {
            return;
        };
        self.enter_step(id, DrainStep::Leaving).await;
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
            let books = self.state.lock().await;
            books.get(id).and_then(|g| Some(g.drain.as_ref()?.deadline))
        };
        if deadline.is_none_or(|deadline| deadline.left().is_some()) {
            return;
        }
        if self.recipe(id).await.is_none_or(|recipe| {
            signal_wait(&self.config.drain, &recipe) < Some(self.config.drain.deadline)
        }) {
            return;
        }
        let Some((later, _ended)) = self.spare_long_lived(id).await else {
            return;
        };
        let mut pace = Pace::until(later);
        while self.path.live(Some(id)) > 0 && self.state.look_again(&mut pace).await {}
    }

    async fn enter_step(&self, id: GenerationId, step: DrainStep) {
        let mut books = self.state.lock().await;
        if let Some(drain) = books.get_mut(id).and_then(|g| g.drain.as_mut()) {
            drain.step = step;
        }
    }
}
