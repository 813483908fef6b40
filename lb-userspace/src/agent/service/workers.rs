//! How the active generation's listeners get on: which of them hang, and whether the choice
//! between them is worth its cost.

use std::time::Duration;

use lb_common::{GenerationId, Workers};

use super::{CheckError, Service, books::Books, slots};
use crate::{
    api::wire::WorkerStatus,
    clock::{self, Deadline},
    config::WorkerChoice,
    generation::progress::Seen,
    sys::{
        listing::{LATELY, Listing},
        sock_diag::{Protocol, Waiting},
    },
};

/// The longest time between two looks for them.
const LONGEST: Duration = Duration::from_secs(16);

/// Listeners of a generation that no process has as a descriptor. To look for them is to look at
/// all descriptors of all its processes: that is done less and less often.
#[derive(Clone, Debug, Default)]
pub(super) struct Untaken {
    said: Option<String>,
    pause: Duration,
    again: Option<Deadline>,
}

impl Untaken {
    /// Whether it is too early to look again.
    fn rests(&self) -> bool {
        self.again.is_some_and(|again| again.left().is_some())
    }

    /// Notes what a look found; whether that is news.
    fn note(&mut self, error: Option<&CheckError>) -> bool {
        let hidden = error.is_some_and(CheckError::is_hidden);
        self.pause = if hidden {
            (self.pause * 2).clamp(Duration::from_secs(1), LONGEST)
        } else {
            Duration::ZERO
        };
        self.again = hidden.then(|| Deadline::after(self.pause));
        let said = error.map(ToString::to_string);
        let is_new = self.said != said;
        self.said = said;
        is_new
    }
}

impl Service {
    /// Once a second, for those that get connections.
    pub(super) fn tend_workers(&self, books: &mut Books) {
        let word = self.path.word();
        let in_share = word.candidate.filter(|_| word.share.as_permille() > 0);
        for id in word.active.into_iter().chain(in_share) {
            if books.get(id).is_some_and(|g| g.untaken.rests()) {
                continue;
            }
            let is_active = word.active == Some(id);
            let looked = match self.look_at_workers(books, id, is_active) {
                // The list was made a moment ago: perhaps before the generation was there, or
                // while it opened its listeners anew.
                Err(error) if error.is_of_listeners() && !error.is_hidden() => {
                    self.register(books, id)
                }
                looked => looked,
            };
            let is_new = books
                .get_mut(id)
                .is_some_and(|g| g.untaken.note(looked.as_ref().err()));
            if let Err(error) = looked.as_ref()
                && is_new
            {
                let generation = books.name_of(id);
                tracing::warn!(
                    service = self.name(),
                    generation,
                    %error,
                    "failed to register the listeners of a generation"
                );
            }
        }
    }

    fn look_at_workers(
        &self,
        books: &mut Books,
        id: GenerationId,
        is_active: bool,
    ) -> Result<(), CheckError> {
        // Older than its slots, a list would take those away that were given since.
        let slotted = books.get(id).map_or_else(clock::now, |g| g.slotted);
        let lately = clock::now().checked_sub(LATELY).unwrap_or(slotted);
        let listing = Listing::since(&self.netns, Protocol::Tcp, slotted.max(lately))?;
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
                "listeners hang; other listeners get their connections until they accept again"
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
        tracing::info!(
            service = self.name(),
            workers = wanted.name(),
            "changed how listeners are chosen"
        );
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
