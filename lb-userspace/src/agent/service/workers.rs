//! How the active generation's listeners get on: which of them hang, and whether the choice
//! between them is worth its cost.

use lb_common::{GenerationId, Workers};

use super::{CheckError, Service, books::Books, slots};
use crate::{
    api::wire::WorkerStatus,
    clock,
    config::WorkerChoice,
    generation::progress::Seen,
    sys::{
        listing::{LATELY, Listing},
        sock_diag::{Protocol, Waiting},
    },
};

impl Service {
    /// Once a second, for those that get connections.
    pub(super) fn tend_workers(&self, books: &mut Books) {
        let word = self.path.word();
        let in_share = word.candidate.filter(|_| word.share.as_permille() > 0);
        for id in word.active.into_iter().chain(in_share) {
            let is_active = word.active == Some(id);
            if let Err(error) = self.look_at_workers(books, id, is_active) {
                let generation = books.name_of(id);
                tracing::warn!(service = self.name(), generation, %error, "its listeners");
            }
        }
    }

    fn look_at_workers(
        &self,
        books: &mut Books,
        id: GenerationId,
        is_active: bool,
    ) -> Result<(), CheckError> {
        // A listener that was opened a moment ago gets its slot the next time.
        let listing = Listing::recent(&self.netns, Protocol::Tcp, LATELY)?;
        let members = slots::members(books, id, &listing)?;
        if is_active && self.config.workers == WorkerChoice::Auto {
            self.choose_anew(books, &members);
        }
        self.note_progress(books, id, &members);
        self.give_slots(books, id, &members)
    }

    fn note_progress(&self, books: &mut Books, id: GenerationId, members: &[Vec<Waiting>]) {
        let (Some(after), Some(generation)) = (self.config.hung_worker_after, books.get_mut(id))
        else {
            return;
        };
        let seen = |waiting: &Waiting| Seen {
            cookie: waiting.cookie,
            queue: waiting.queue,
        };
        let groups: Vec<Vec<Seen>> = members
            .iter()
            .map(|group| group.iter().map(seen).collect())
            .collect();
        let (before, _) = generation.progress.hung();
        generation
            .progress
            .look(clock::since_boot(), &groups, after);
        let (hung, queue) = generation.progress.hung();
        let (service, generation) = (self.name(), generation.name.as_str());
        if hung > before {
            tracing::warn!(
                service,
                generation,
                hung,
                queue,
                "listeners hang: others get their connections until they accept again"
            );
        } else if hung < before {
            tracing::info!(service, generation, hung, "listeners accept again");
        }
    }

    /// What `workers = "auto"` does: takes the dearer choice while it is worth its cost.
    fn choose_anew(&self, books: &mut Books, members: &[Vec<Waiting>]) {
        let queues = members.iter().flatten().map(|waiting| waiting.queue);
        let wanted = books.evenness.look(clock::since_boot(), queues);
        if wanted == self.path.chosen_by() {
            return;
        }
        tracing::info!(service = self.name(), workers = wanted.name(), "workers");
        self.path.choose_by(wanted);
        // They are registered again, so that their connections are counted, or not any more.
        for generation in &mut books.generations {
            generation.steered.clear();
        }
    }

    /// For `status`.
    pub(super) fn worker_status(&self) -> WorkerStatus {
        WorkerStatus {
            configured: self.config.workers,
            now: self.path.chosen_by().name().to_owned(),
        }
    }

    /// Open connections of a listener with this slot, where they are counted.
    pub(super) fn open_at(&self, slot: u32) -> Option<u64> {
        (self.path.chosen_by() == Workers::Least).then(|| self.path.load(slot))
    }
}
