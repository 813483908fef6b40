//! How the active generation's listeners get on: which of them hang, and whether the choice
//! between them is worth its cost.

use std::{
    sync::{self, Arc, PoisonError},
    time::{Duration, Instant},
};

use lb_common::{GenerationId, SteeringWord};

use super::{CheckError, Context, beside::in_turn, registry::Registry, shared::SharedState, slots};
use crate::{
    clock::{self, Deadline},
    config::WorkerChoice,
    generation::{evenness::Evenness, progress::Seen},
    sys::{
        listing::{LATELY, Listing},
        sock_diag::{DumpError, Protocol, Waiting},
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

/// Who gets connections by this word.
fn served(word: SteeringWord) -> impl Iterator<Item = GenerationId> {
    let in_share = word.candidate.filter(|_| word.share.as_permille() > 0);
    word.active.into_iter().chain(in_share)
}

/// Chooses how listeners are chosen, where that is its choice, and follows those that get connections.
#[derive(Debug, Default)]
pub(super) struct WorkerBalance {
    /// What `workers = "auto"` goes by.
    evenness: sync::Mutex<Evenness>,
}

impl WorkerBalance {
    /// Once a second, for those that get connections.
    pub(super) async fn tend(&self, context: &Context, state: &SharedState) {
        for id in served(context.path.word()) {
            let Some((slotted, listing)) = list(context, state, id).await else {
                continue;
            };
            let mut registry = state.lock().await;
            let registry = &mut *registry;
            let word = context.path.word();
            if !served(word).any(|now| now == id) {
                continue; // it ended meanwhile, or others get the connections
            }
            let is_active = word.active == Some(id);
            if registry
                .get(id)
                .is_none_or(|g| g.slots().given_at() != slotted)
            {
                // It got slots meanwhile: a list that is older would take them away.
                continue;
            }
            let looked = listing.map_err(CheckError::from);
            let looked = looked.and_then(|all| self.look(context, registry, id, &all, is_active));
            let looked = match looked {
                // The list was made a moment ago: perhaps before the generation was there, or
                // while it opened its listeners anew.
                Err(error) if error.is_of_listeners() && !error.is_hidden() => {
                    slots::register(context, registry, id)
                }
                looked => looked,
            };
            note_untaken(context, registry, id, looked.as_ref().err());
        }
    }

    fn look(
        &self,
        context: &Context,
        registry: &mut Registry,
        id: GenerationId,
        listing: &Listing,
        is_active: bool,
    ) -> Result<(), CheckError> {
        let members = slots::members(registry, id, listing)?;
        if is_active && context.config.workers == WorkerChoice::Auto {
            self.choose_anew(context, registry, &members);
        }
        note_progress(context, registry, id, &members);
        slots::give_slots(context, registry, id, &members)
    }

    /// What `workers = "auto"` does: takes the dearer choice while it is worth its cost.
    fn choose_anew(&self, context: &Context, registry: &mut Registry, members: &[Vec<Waiting>]) {
        let queues = members.iter().flatten().map(|waiting| waiting.queue);
        let wanted = {
            let evenness = self.evenness.lock();
            let mut evenness = evenness.unwrap_or_else(PoisonError::into_inner);
            evenness.look(clock::since_boot(), queues)
        };
        if wanted == context.path.chosen_by() {
            return;
        }
        tracing::info!(
            service = context.name(),
            workers = wanted.name(),
            "changed how listeners are chosen"
        );
        context.path.choose_by(wanted);
        // They are registered again, so that their connections are counted, or not any more.
        for generation in registry.all_mut() {
            generation.slots_mut().renew();
        }
    }
}

/// All listeners, listed since the generation got its slots, and when that was; `None` for one that is gone,
/// or for which it is too early to look again.
async fn list(
    context: &Context,
    state: &SharedState,
    id: GenerationId,
) -> Option<(Instant, Result<Arc<Listing>, DumpError>)> {
    let slotted = {
        let registry = state.lock().await;
        let generation = registry.get(id).filter(|g| !g.slots().untaken().rests())?;
        generation.slots().given_at()
    };
    let lately = clock::now().checked_sub(LATELY).unwrap_or(slotted);
    let netns = context.netns.clone();
    let listing = in_turn(move || Listing::since(&netns, Protocol::Tcp, slotted.max(lately)));
    Some((slotted, listing.await))
}

fn note_progress(
    context: &Context,
    registry: &mut Registry,
    id: GenerationId,
    members: &[Vec<Waiting>],
) {
    let (Some(after), Some(generation)) = (context.config.hung_worker_after, registry.get_mut(id))
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
    let progress = generation.slots_mut().progress_mut();
    let (before, _) = progress.hung();
    progress.look(clock::since_boot(), &groups, after);
    let (hung, queue) = progress.hung();
    let (service, generation) = (context.name(), generation.name());
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

fn note_untaken(
    context: &Context,
    registry: &mut Registry,
    id: GenerationId,
    error: Option<&CheckError>,
) {
    let generation = registry.get_mut(id);
    let is_new = generation.is_some_and(|g| g.slots_mut().untaken_mut().note(error));
    if let Some(error) = error
        && is_new
    {
        let generation = registry.name_of(id);
        tracing::warn!(
            service = context.name(),
            generation,
            %error,
            "failed to register the listeners of a generation"
        );
    }
}
