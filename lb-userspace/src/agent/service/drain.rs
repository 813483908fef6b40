//! Drain: from "gets no new connection" to "has none left".

use std::{sync::Arc, time::Duration};

use lb_common::GenerationId;

use super::{Pace, Service, books::Books};
use crate::{clock::Deadline, rollout::GenerationState};

impl Service {
    /// Drains a generation in the background. Its connections, those in its accept queues
    /// included, may end by themselves for `signal_after`; a generation that has none left runs
    /// on as standby, any other is told to end.
    pub(super) fn drain(self: &Arc<Self>, books: &mut Books, id: GenerationId) {
        let Some(generation) = books.get_mut(id) else {
            return;
        };
        generation.undrain();
        if !generation.state.can_serve() {
            return; // it ended, or is being ended
        }
        // One that an earlier agent began to drain goes on where it was.
        let mut limit = self.config.drain.signal_after;
        if generation.state == GenerationState::Draining {
            limit = limit.saturating_sub(generation.in_state_for());
        } else {
            generation.enter(GenerationState::Draining, None);
        }
        let service = Arc::clone(self);
        let task = tokio::spawn(async move { service.drained(id, limit).await });
        generation.drain = Some(task.abort_handle());
    }

    async fn drained(self: &Arc<Self>, id: GenerationId, limit: Duration) {
        let mut quiet = Pace::until(Deadline::after(limit));
        let is_empty = || self.path.live(Some(id)) == 0;
        while !is_empty() && self.look_again(&mut quiet).await {}
        let mut books = self.books.lock().await;
        let Some(generation) = books.get_mut(id) else {
            return;
        };
        if generation.state != GenerationState::Draining {
            return;
        }
        generation.drain = None;
        if is_empty() && !self.config.keep.is_zero() {
            generation.enter(GenerationState::Standby, None);
            self.settle(&mut books);
        } else {
            self.stop_in_background(&mut books, id);
            self.settle(&mut books);
        }
    }
}
