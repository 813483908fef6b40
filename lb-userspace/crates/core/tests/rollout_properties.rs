//! The course of a rollout under any events in any order.

use hotlb_core::rollout::{Course, Effect, Event, Phase, step};
use proptest::prelude::*;

const CASES: u32 = 10_000;
/// Phases at most between the beginning and the end.
const LONGEST: usize = 9;

/// Who gets new connections, as the effects move it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Former,
    Candidate,
}

/// A rollout with the world it acts on.
#[derive(Debug)]
struct World {
    course: Course,
    word: Word,
    /// Whether an effect drained the former generation.
    drained: bool,
    /// Whether anything failed, or was undone, before that.
    failed_early: bool,
}

impl World {
    fn new() -> Self {
        Self {
            course: Course::begin(Phase::PreLoad),
            word: Word::Former,
            drained: false,
            failed_early: false,
        }
    }

    fn happens(&mut self, event: Event) {
        let early = [Phase::PreLoad, Phase::Validate, Phase::Swap, Phase::Bake];
        let breaks = matches!(event, Event::Failed | Event::Undo);
        self.failed_early |= breaks && early.contains(&self.course.phase);
        let (course, effects) = step(self.course, event);
        self.course = course;
        for effect in effects {
            match effect {
                Effect::Store => self.word = Word::Candidate,
                Effect::StoreBack => self.word = Word::Former,
                Effect::Drain => {
                    assert_eq!(self.word, Word::Candidate, "the active one is drained");
                    self.drained = true;
                }
                Effect::Discard => assert_eq!(self.word, Word::Former, "the active one is ended"),
                _ => {}
            }
        }
    }

    /// What an agent that begins tells: the word is where it is.
    fn resumed(&self) -> Event {
        Event::Resumed {
            swapped: self.word == Word::Candidate,
        }
    }

    fn expect_end(&self) {
        match self.course.phase {
            Phase::Done => {
                assert_eq!(self.word, Word::Candidate);
                assert!(self.drained && !self.failed_early, "{self:?}");
            }
            Phase::RolledBack => {
                assert_eq!(self.word, Word::Former);
                assert!(!self.drained, "{self:?}");
            }
            phase => assert!(phase.is_over(), "{phase:?} is no end"),
        }
    }
}

/// What happens, with a kill of the agent as `None`.
fn events() -> impl Strategy<Value = Vec<Option<Event>>> {
    let event = prop_oneof![
        4 => Just(Some(Event::Passed)),
        1 => Just(Some(Event::Failed)),
        1 => Just(Some(Event::Undo)),
        1 => Just(Some(Event::Superseded)),
        2 => Just(None),
    ];
    prop::collection::vec(event, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    /// However it went so far, with nothing but success or nothing but failure from then on it ends
    /// within its phases: done with the candidate active, or rolled back with the former one; done
    /// never after a failure before the drain. There is one word, and what is not in it is drained or
    /// ended, never what is.
    #[test]
    fn it_ends_with_the_one_or_with_the_other(events in events(), last in any::<bool>()) {
        let mut world = World::new();
        for event in events {
            let event = event.unwrap_or_else(|| world.resumed());
            world.happens(event);
        }
        let last = if last { Event::Passed } else { Event::Failed };
        for _ in 0..LONGEST {
            if !world.course.phase.is_over() {
                world.happens(last);
            }
        }
        world.expect_end();
    }

    /// What is over stays over.
    #[test]
    fn an_end_is_an_end(events in events(), done in any::<bool>()) {
        let end = if done { Phase::Done } else { Phase::RolledBack };
        let mut course = Course::begin(end);
        for event in events {
            let resumed = Event::Resumed { swapped: done };
            course = step(course, event.unwrap_or(resumed)).0;
            prop_assert_eq!(course.phase, end);
        }
    }
}
