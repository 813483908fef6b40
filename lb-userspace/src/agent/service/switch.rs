//! The word moves: to a generation that is promoted, back to the former one, or after the kernel
//! when a generation ended.

use std::sync::Arc;

use lb_common::GenerationId;

use super::{Service, VerbError, books::Books, freeze};
use crate::rollout::{self, GenerationState, Standing};

/// What a move of the word is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The former generation is held until the rollout lets go of it.
    Promote,
    /// The former generation is drained at once.
    Rollback,
}

impl Service {
    /// The moment of truth: one store. Says who was active before.
    pub(super) async fn switch(
        self: &Arc<Self>,
        id: GenerationId,
        purpose: Purpose,
    ) -> Result<Option<GenerationId>, VerbError> {
        let mut books = self.state.lock().await;
        self.switch_in(&mut books, id, purpose)
    }

    /// [`Service::switch`] for who has the lock.
    pub(super) fn switch_in(
        self: &Arc<Self>,
        books: &mut Books,
        id: GenerationId,
        purpose: Purpose,
    ) -> Result<Option<GenerationId>, VerbError> {
        // Between the checks and now it may have been stopped, promoted, or ended.
        refuse_unpromotable(books, id)?;
        let previous = books.steering.former(id);
        let fallback = books.decide(|standing| {
            rollout::fallback(
                Standing {
                    previous,
                    ..standing
                },
                Some(id),
            )
        });
        if let Some(generation) = books.get(id) {
            freeze::thaw(self, &generation.cgroup);
        }
        let former = match purpose {
            Purpose::Promote => books.steering.promote(id, fallback),
            Purpose::Rollback => books.steering.roll_back(id, fallback),
        };
        self.became_active(books, id, None);
        if former.is_none() || self.path.live(None) > 0 {
            self.parking.release();
        }
        if let Some(former) = former {
            match purpose {
                Purpose::Promote => hold(books, former),
                Purpose::Rollback => self.drain(books, former),
            }
        }
        self.retire_others(books, id, former);
        self.state.settle(books);
        Ok(former)
    }

    pub(super) fn became_active(
        &self,
        books: &mut Books,
        id: GenerationId,
        reason: Option<String>,
    ) {
        self.take_flows(id);
        if let Some(generation) = books.get_mut(id) {
            generation.undrain();
            generation.failed = None;
            freeze::thaw(self, &generation.cgroup);
            generation.enter(GenerationState::Active, reason);
        }
    }

    /// So many generations are kept beside the active one, the former among them. Earlier ones
    /// end.
    fn retire_others(
        self: &Arc<Self>,
        books: &mut Books,
        active: GenerationId,
        former: Option<GenerationId>,
    ) {
        let room = self.config.keep.generations;
        let room = room.saturating_sub(usize::from(former.is_some()));
        let mut others: Vec<(u64, GenerationId)> = books
            .generations
            .iter()
            .filter(|g| g.state == GenerationState::Standby)
            .map(|g| (g.since, g.id))
            .filter(|&(_, id)| id != active && Some(id) != former)
            .collect();
        others.sort_unstable();
        others.reverse();
        for (_, id) in others.into_iter().skip(room) {
            self.stop_in_background(books, id);
        }
    }

    /// Whether every group still has a listener of the generation, and it lives.
    pub(super) async fn can_take_over(&self, id: GenerationId) -> bool {
        let books = self.state.lock().await;
        self.can_take_over_in(&books, id)
    }

    /// [`Service::can_take_over`] for who has the lock.
    pub(super) fn can_take_over_in(&self, books: &Books, id: GenerationId) -> bool {
        let able = books.get(id).is_some_and(|g| g.state.can_serve());
        able && super::candidate::still_alive(books, id).is_ok() && self.listens(id)
    }

    /// Makes the word say what the books say: after a generation came, went or failed.
    pub(super) fn word_follows(self: &Arc<Self>, books: &mut Books) {
        let word = self.path.word();
        let able = |id: GenerationId| match books.get(id) {
            Some(generation) => generation.state.can_serve(),
            // Unknown, for the ledger was lost: if it listens, it serves.
            None => self.listens(id),
        };
        let mut active = word.active.filter(|&id| able(id));
        if active.is_none() && word.active.is_some() {
            // The kernel has moved the traffic already; this makes it official.
            active = word.candidate.filter(|&id| able(id));
        }
        let fallback = books.decide(|standing| rollout::fallback(standing, active));
        // With nobody active, a candidate that was never promoted waits to be.
        let fallback = fallback.filter(|_| active.is_some());
        if books.steering.follow(active, fallback)
            && let Some(id) = active
        {
            self.failed_over(books, word.active, id);
        }
    }

    /// Whether every group has a listener of the generation.
    pub(super) fn listens(&self, id: GenerationId) -> bool {
        self.path
            .all_groups()
            .all(|group| group.live_listeners(id) > 0)
    }

    fn failed_over(
        self: &Arc<Self>,
        books: &mut Books,
        former: Option<GenerationId>,
        id: GenerationId,
    ) {
        self.became_active(books, id, Some("the active generation ended".to_owned()));
        self.parking.release();
        let how = former
            .and_then(|former| books.get(former))
            .and_then(|former| former.reason.as_deref())
            .unwrap_or("ended");
        let why = format!("the active generation {how}");
        self.note_failover(books, former, id, why);
    }
}

/// Takes the former generation out of service, and nothing more: a rollout on probation may go
/// back to it.
pub(super) fn hold(books: &mut Books, id: GenerationId) {
    if let Some(generation) = books.get_mut(id)
        && generation.state.can_serve()
    {
        generation.undrain();
        generation.enter(GenerationState::Draining, None);
    }
}

/// An error for a generation that cannot be made active.
pub(super) fn refuse_unpromotable(books: &Books, id: GenerationId) -> Result<(), VerbError> {
    let generation = books.name_of(id);
    let state = books.get(id).map_or(GenerationState::Failed, |g| g.state);
    match rollout::cannot_promote(state) {
        Some(reason) => Err(VerbError::Unpromotable { generation, reason }),
        None => Ok(()),
    }
}
