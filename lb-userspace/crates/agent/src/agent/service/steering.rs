//! Who gets the service's new clients, and who got them before.

use lb_common::{GenerationId, Share, SteeringWord};

use crate::datapath::WordWriter;

/// The steering word, and what is remembered of its moves. The only holder of the word's writer: whoever
/// has it exclusively, which is whoever has the lock of the service's state, decides who is active.
#[derive(Debug)]
pub(super) struct Steering {
    writer: WordWriter,
    previous: Option<GenerationId>,
    moves: Moves,
}

/// How often the word moved so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moves {
    /// To a generation that was promoted, or that became active because nobody was.
    pub(super) promotes: u64,
    /// Back to the former generation.
    pub(super) rollbacks: u64,
    /// To the fallback, when the active generation ended.
    pub(super) failovers: u64,
}

impl Steering {
    pub(super) const fn new(writer: WordWriter) -> Self {
        Self {
            writer,
            previous: None,
            moves: Moves {
                promotes: 0,
                rollbacks: 0,
                failovers: 0,
            },
        }
    }

    /// Takes over what an earlier agent wrote down; the word itself is the kernel's.
    pub(super) const fn remember(&mut self, previous: Option<GenerationId>, moves: Moves) {
        self.previous = previous;
        self.moves = moves;
    }

    /// Who was active before the last promote: a rollback leads there.
    pub(super) const fn previous(&self) -> Option<GenerationId> {
        self.previous
    }

    pub(super) const fn moves(&self) -> Moves {
        self.moves
    }

    /// Has a rollback lead elsewhere. Says where it led.
    pub(super) const fn set_previous(
        &mut self,
        previous: Option<GenerationId>,
    ) -> Option<GenerationId> {
        std::mem::replace(&mut self.previous, previous)
    }

    /// One generation got the place of another.
    pub(super) fn succeeds(&mut self, former: GenerationId, id: GenerationId) {
        if self.previous == Some(former) {
            self.previous = Some(id);
        }
    }

    /// Who is active beside `id`, before the word moves there.
    pub(super) fn former(&self, id: GenerationId) -> Option<GenerationId> {
        self.writer.word().active.filter(|&former| former != id)
    }

    /// Moves the word to a generation. Says who was active before: a rollback leads there.
    pub(super) fn promote(
        &mut self,
        id: GenerationId,
        fallback: Option<GenerationId>,
    ) -> Option<GenerationId> {
        self.previous = self.lead(id, fallback);
        self.moves.promotes += 1;
        self.previous
    }

    /// Moves the word back. Says who was active before.
    pub(super) fn roll_back(
        &mut self,
        id: GenerationId,
        fallback: Option<GenerationId>,
    ) -> Option<GenerationId> {
        let former = self.lead(id, fallback);
        self.moves.rollbacks += 1;
        self.previous = None;
        former
    }

    /// Moves the word to a generation that was active before it ended, for nobody is.
    pub(super) fn promote_again(&mut self, id: GenerationId, fallback: Option<GenerationId>) {
        self.lead(id, fallback);
        self.moves.promotes += 1;
        self.no_longer_before(id);
    }

    /// Moves the word to a generation that has the clients already.
    pub(super) fn adopt(&mut self, id: GenerationId) {
        self.lead(id, None);
    }

    /// Has the word say who serves by now. Says whether the fallback became active by that.
    pub(super) fn follow(
        &mut self,
        active: Option<GenerationId>,
        fallback: Option<GenerationId>,
    ) -> bool {
        let word = self.writer.word();
        if (active, fallback) == (word.active, word.candidate) {
            return false;
        }
        self.writer.store(SteeringWord {
            active,
            candidate: fallback,
            ..word
        });
        let Some(id) = active.filter(|&id| word.active != Some(id)) else {
            return false;
        };
        self.moves.failovers += 1;
        self.no_longer_before(id);
        true
    }

    /// Has every new client wait until the word moves again. A rollback leads to who was active.
    pub(super) fn park(&mut self, active: GenerationId) {
        self.lead_nowhere();
        self.previous = Some(active);
    }

    /// Nobody is active, and nobody stands in.
    pub(super) fn lead_nowhere(&mut self) {
        self.writer.store(SteeringWord::default());
    }

    fn lead(&mut self, id: GenerationId, fallback: Option<GenerationId>) -> Option<GenerationId> {
        let former = self.former(id);
        self.writer.store(SteeringWord {
            active: Some(id),
            candidate: fallback,
            share: Share::NONE,
            epoch: 0,
        });
        former
    }

    fn no_longer_before(&mut self, id: GenerationId) {
        if self.previous == Some(id) {
            self.previous = None;
        }
    }
}
