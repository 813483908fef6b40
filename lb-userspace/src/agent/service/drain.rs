//! Drain: from "gets no new connection" to "has none left".

use std::sync::Arc;

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
        generation.enter(GenerationState::Draining, None);
        let service = Arc::clone(self);
        let task = tokio::spawn(async move { service.drained(id).await });
        generation.drain = Some(task.abort_handle());
    }

    async fn drained(self: &Arc<Self>, id: GenerationId) {
        let mut quiet = Pace::until(Deadline::after(self.config.drain.signal_after));
        let is_empty = || self.path.live(Some(id)) == 0;
        while !is_empty() {
            self.ask_to_leave(id).await;
            if !self.look_again(&mut quiet).await {
                break;
            }
        }
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
