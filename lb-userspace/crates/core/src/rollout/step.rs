//! What follows when something happens to a rollout: pure and total.
//!
//! The executor journals the state that [`step`] answers before it begins its work; whatever
//! comes of the work is the next event. An agent that was killed reads the last state and asks
//! with [`Event::Resumed`].

use serde::{Deserialize, Serialize};

use super::Phase;

/// A rollout, as far as its course depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Course {
    /// Where it stands.
    pub phase: Phase,
    /// How often this phase was begun, from 1 on: more than once only after the agent was killed
    /// in it.
    pub attempt: u32,
}

/// What can happen to a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The phase's work is done.
    Passed,
    /// The phase's work failed.
    Failed,
    /// An operator wants the former generation back.
    Undo,
    /// Another generation is to be promoted.
    Superseded,
    /// An agent finds the rollout that a killed one left.
    Resumed {
        /// Whether the steering word names the candidate.
        swapped: bool,
    },
}

impl Event {
    /// All events.
    pub const ALL: [Self; 6] = [
        Self::Passed,
        Self::Failed,
        Self::Undo,
        Self::Superseded,
        Self::Resumed { swapped: true },
        Self::Resumed { swapped: false },
    ];

    /// The name in the diagram.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Undo => "undo",
            Self::Superseded => "superseded",
            Self::Resumed { swapped: true } => "resumed, word moved",
            Self::Resumed { swapped: false } => "resumed, word not moved",
        }
    }
}

/// What is to be done, in order. Each effect can be done again without harm: it looks first
/// whether it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Run the hooks of the phase.
    Hooks(Phase),
    /// Check the candidate's program and start it, unless it runs.
    Load,
    /// Check its listeners and probe it through the real port.
    Probe,
    /// Store the word that makes it active.
    Store,
    /// See that it answers now that it is active.
    Verify,
    /// Watch it until the bake is over.
    Watch,
    /// Have the former generation drained.
    Drain,
    /// Store the word that makes the former generation active, starting that again if need be.
    StoreBack,
    /// End the candidate, if it was started for this rollout.
    Discard,
    /// Write down how it ended.
    Close,
}

impl Course {
    /// A rollout that begins.
    pub const fn begin(phase: Phase) -> Self {
        Self { phase, attempt: 1 }
    }
}

/// What the work of a phase is.
pub const fn work(phase: Phase) -> &'static [Effect] {
    match phase {
        Phase::PreLoad => &[Effect::Hooks(Phase::PreLoad), Effect::Load],
        Phase::Validate => &[Effect::Probe, Effect::Hooks(Phase::Validate)],
        Phase::Swap => &[Effect::Store, Effect::Verify, Effect::Hooks(Phase::Swap)],
        Phase::Bake => &[Effect::Watch],
        Phase::Drain => &[Effect::Drain],
        Phase::RollingBack => &[Effect::StoreBack, Effect::Discard],
        Phase::PostRollback => &[Effect::Hooks(Phase::PostRollback)],
        Phase::Done | Phase::RolledBack => &[Effect::Close],
    }
}

/// Where a rollout stands after `event`, and what is to be done there. Without effects the event
/// changes nothing, and the work that is being done goes on.
pub fn step(course: Course, event: Event) -> (Course, &'static [Effect]) {
    match follow(course.phase, event) {
        Some(phase) if phase == course.phase => {
            let attempt = course.attempt.saturating_add(1);
            (Course { phase, attempt }, work(phase))
        }
        Some(phase) => (Course::begin(phase), work(phase)),
        None => (course, &[]),
    }
}

/// The phase that is to be begun, if any.
fn follow(phase: Phase, event: Event) -> Option<Phase> {
    match event {
        Event::Passed => passed(phase),
        Event::Failed => failed(phase),
        Event::Undo => undo(phase),
        // The candidate has proved itself to whoever promotes the next one.
        Event::Superseded => (phase == Phase::Bake).then_some(Phase::Drain),
        Event::Resumed { swapped } => Some(resumed(phase, swapped)),
    }
}

const fn passed(phase: Phase) -> Option<Phase> {
    match phase {
        Phase::PreLoad => Some(Phase::Validate),
        Phase::Validate => Some(Phase::Swap),
        Phase::Swap => Some(Phase::Bake),
        Phase::Bake => Some(Phase::Drain),
        Phase::Drain => Some(Phase::Done),
        Phase::RollingBack => Some(Phase::PostRollback),
        Phase::PostRollback => Some(Phase::RolledBack),
        Phase::Done | Phase::RolledBack => None,
    }
}

const fn failed(phase: Phase) -> Option<Phase> {
    match phase {
        Phase::PreLoad | Phase::Validate | Phase::Swap | Phase::Bake => Some(Phase::RollingBack),
        // The candidate is active and stays so; what the drain could not do is written down.
        Phase::Drain => Some(Phase::Done),
        // What cannot be undone is told to the hooks, and then written down.
        Phase::RollingBack => Some(Phase::PostRollback),
        Phase::PostRollback => Some(Phase::RolledBack),
        Phase::Done | Phase::RolledBack => None,
    }
}

const fn undo(phase: Phase) -> Option<Phase> {
    match phase {
        Phase::PreLoad | Phase::Validate | Phase::Swap | Phase::Bake => Some(Phase::RollingBack),
        // From the drain on a rollback is a rollout of its own.
        Phase::Drain
        | Phase::Done
        | Phase::RollingBack
        | Phase::PostRollback
        | Phase::RolledBack => None,
    }
}

const fn resumed(phase: Phase, swapped: bool) -> Phase {
    match phase {
        // Whoever asked for it has lost the connection to the agent; nobody has seen the
        // candidate yet.
        Phase::PreLoad | Phase::Validate => Phase::RollingBack,
        Phase::Swap | Phase::Bake if !swapped => Phase::RollingBack,
        Phase::Swap
        | Phase::Bake
        | Phase::Drain
        | Phase::Done
        | Phase::RollingBack
        | Phase::PostRollback
        | Phase::RolledBack => phase,
    }
}

/// The diagram of [`step`] in Mermaid's language, as `docs/user/rollouts.md` shows it.
pub fn diagram() -> String {
    let mut lines = vec![
        "stateDiagram-v2".to_owned(),
        "    %% generated by `HOTLB_BLESS=1 cargo test --lib docs`; do not edit".to_owned(),
        "    [*] --> pre_load".to_owned(),
    ];
    for phase in Phase::ALL {
        let mut labels: Vec<(Phase, Vec<&str>)> = Vec::new();
        for event in Event::ALL {
            let Some(to) = follow(phase, event) else {
                continue;
            };
            match labels.iter_mut().find(|(known, _)| *known == to) {
                Some((_, events)) => events.push(event.name()),
                None => labels.push((to, vec![event.name()])),
            }
        }
        for (to, events) in labels {
            let events = events.join("; ");
            lines.push(format!("    {} --> {}: {events}", phase.name(), to.name()));
        }
        if phase.is_over() {
            lines.push(format!("    {} --> [*]", phase.name()));
        }
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    fn all() -> impl Iterator<Item = (Course, Event)> {
        Phase::ALL.into_iter().flat_map(|phase| {
            let course = Course { phase, attempt: 3 };
            Event::ALL.into_iter().map(move |event| (course, event))
        })
    }

    #[test]
    fn every_event_is_answered_in_every_phase() {
        for (course, event) in all() {
            let (next, effects) = step(course, event);
            assert_eq!(effects.is_empty(), next == course, "{course:?} {event:?}");
            if !effects.is_empty() {
                assert_eq!(effects, work(next.phase));
                let again = next.phase == course.phase;
                assert_eq!(next.attempt, if again { 4 } else { 1 });
            }
        }
    }

    #[test]
    fn whatever_happens_it_ends_as_done_or_as_rolled_back() {
        for phase in Phase::ALL {
            for events in [[Event::Passed; 8], [Event::Failed; 8]] {
                let mut course = Course::begin(phase);
                for event in events {
                    course = step(course, event).0;
                }
                assert!(course.phase.is_over(), "{phase:?} ends in {course:?}");
            }
        }
    }

    #[test]
    fn no_failure_before_the_drain_ends_as_done() {
        for phase in [Phase::PreLoad, Phase::Validate, Phase::Swap, Phase::Bake] {
            for event in [Event::Failed, Event::Undo] {
                let mut course = step(Course::begin(phase), event).0;
                let mut seen = BTreeSet::new();
                while !course.phase.is_over() {
                    seen.insert(course.phase);
                    course = step(course, Event::Passed).0;
                }
                assert_eq!(course.phase, Phase::RolledBack);
                assert!(seen.contains(&Phase::PostRollback), "{phase:?}");
            }
        }
    }

    #[test]
    fn a_resumed_rollout_never_moves_the_word_forward_by_itself() {
        for phase in Phase::ALL {
            let (next, effects) = step(Course::begin(phase), Event::Resumed { swapped: false });
            assert!(!effects.contains(&Effect::Store), "{phase:?} -> {next:?}");
        }
    }

    #[test]
    fn the_diagram_in_the_docs_is_this_one() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../docs/user/rollouts.md");
        let text = fs::read_to_string(&path).unwrap();
        let (before, rest) = text.split_once("```mermaid\n").unwrap();
        let (shown, after) = rest.split_once("```").unwrap();
        if std::env::var_os("HOTLB_BLESS").is_some() {
            fs::write(
                &path,
                format!("{before}```mermaid\n{}```{after}", diagram()),
            )
            .unwrap();
        } else {
            assert_eq!(shown, diagram(), "write it anew with HOTLB_BLESS=1");
        }
    }
}
