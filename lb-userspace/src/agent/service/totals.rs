//! Counts that never go down: those of generations that are forgotten, of seats that are given on,
//! and of rollouts.

use std::time::Duration;

use lb_common::GenerationId;

use super::{Service, VerbError, books::Books, view::accounting};
use crate::{
    clock,
    datapath::ConnectionCounts,
    rollout::Phase,
    store::{
        LastRollout,
        journal::{Outcome, RolloutKind},
    },
};

/// Generations that ended and are still remembered: their names, reasons and counts.
const REMEMBERED: usize = 16;

/// A rollout that is over.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) kind: RolloutKind,
    pub(super) outcome: Outcome,
    /// From the request.
    pub(super) took: Duration,
    /// From the request to the store of the word, if this agent did it.
    pub(super) steered: Option<Duration>,
    /// Its trace, unless nobody wants that.
    pub(super) trace: Option<String>,
}

impl Service {
    /// Forgets the oldest of those that ended, beyond what is remembered; not their counts.
    pub(super) fn forget_old(&self, books: &mut Books) {
        let ended = books.generations.iter().filter(|g| !g.state.is_live());
        let mut excess = ended.count().saturating_sub(REMEMBERED);
        let previous = books.steering.previous();
        let (forgotten, kept) = std::mem::take(&mut books.generations)
            .into_iter()
            .partition::<Vec<_>, _>(|g| {
                let forget = excess > 0 && !g.state.is_live() && Some(g.id) != previous;
                excess -= usize::from(forget);
                forget
            });
        books.generations = kept;
        for generation in forgotten {
            books.counted_on.push(generation.id);
            retire(books, accounting::connections(&self.path, &generation));
            if !generation.unseated {
                self.keep_latencies(books, generation.id);
            }
        }
    }

    /// Keeps how long clients waited at the seat of a generation that is forgotten, or whose seat
    /// is given on.
    pub(super) fn keep_latencies(&self, books: &mut Books, id: GenerationId) {
        books.past.add(&self.path.latencies(Some(id)));
    }

    /// Empties a seat of the kernel's tables for a generation that begins. What it counted for
    /// another one is written down before that: an agent that is killed in between would lose it.
    pub(super) async fn empty_seat(
        &self,
        books: &mut Books,
        id: GenerationId,
    ) -> Result<(), VerbError> {
        if self.vacate(books, id) {
            // The verb says it at its end.
            let _unrecorded = self.state.record(books).await;
        }
        self.path.clear_seat(id)?;
        Ok(())
    }

    /// Counts a rollout that is over. An agent that is killed between this and the journal's note
    /// of the end leaves one of them undone: the count is of what the agents saw to the end.
    pub(super) async fn tally_rollout(&self, ended: Ended) {
        let last = LastRollout {
            done: ended.outcome == Outcome::Done,
            took: ended.took,
            ended_ms: clock::unix_millis(),
        };
        let mut books = self.state.lock().await;
        books.tally.rollout(
            ended.kind,
            ended.outcome,
            last,
            ended.steered.map(|took| (took, ended.trace)),
        );
        self.state.settle(&books);
    }

    /// Counts a hook that ended; written down with whatever is next.
    pub(super) async fn tally_hook(&self, phase: Phase, succeeded: bool) {
        self.state
            .change(|books| books.tally.hook(phase, succeeded))
            .await;
    }
}

/// Keeps counts whose generation is forgotten.
pub(super) fn retire(books: &mut Books, counts: ConnectionCounts) {
    books.retired = ConnectionCounts {
        live: 0,
        ..books.retired.plus(counts)
    };
}
