//! What a program was seen to do on its signal, and what follows from that for the next time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Programs that are remembered; the one that was seen longest ago is forgotten first.
const REMEMBERED: usize = 32;

/// What came of connections that were open when a server was told to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Seen {
    /// Each ended with its answer.
    Finishes,
    /// Some ended without.
    Cuts {
        /// How many.
        connections: u64,
        /// Whose.
        generation: String,
        /// When the signal had been sent, counted from the beginning of the drain.
        after: Duration,
    },
}

/// What is known of a program and a signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Habit {
    /// What was seen last.
    pub seen: Seen,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    /// [`super::recipe::Program::key`].
    program: String,
    signal: String,
    #[serde(flatten)]
    habit: Habit,
}

/// The habits of the programs of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Habits(Vec<Entry>);

impl Habits {
    /// What `program` does on `signal`, if it was seen.
    pub fn of(&self, program: &str, signal: &str) -> Option<&Habit> {
        let mut entries = self.0.iter();
        entries
            .find(|entry| entry.program == program && entry.signal == signal)
            .map(|entry| &entry.habit)
    }

    /// Remembers what was seen; not what was seen before.
    pub fn note(&mut self, program: String, signal: String, seen: Seen) {
        self.0
            .retain(|entry| entry.program != program || entry.signal != signal);
        let excess = (self.0.len() + 1).saturating_sub(REMEMBERED);
        self.0.drain(..excess);
        self.0.push(Entry {
            program,
            signal,
            habit: Habit { seen },
        });
    }

    /// Forgets that `program` finishes on `signal`: it is not sure any more.
    pub fn doubt(&mut self, program: &str, signal: &str) {
        self.0.retain(|entry| {
            let same = entry.program == program && entry.signal == signal;
            !same || entry.habit.seen != Seen::Finishes
        });
    }

    /// All that cut: program, signal, connections, generation, and when after the drain's
    /// beginning.
    pub fn cuts(&self) -> impl Iterator<Item = (&str, &str, u64, &str, Duration)> {
        self.0.iter().filter_map(|entry| match &entry.habit.seen {
            Seen::Finishes => None,
            Seen::Cuts {
                connections,
                generation,
                after,
            } => Some((
                entry.program.as_str(),
                entry.signal.as_str(),
                *connections,
                generation.as_str(),
                *after,
            )),
        })
    }
}

/// Connections at the moment of a signal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Before {
    /// A request was there, and no byte of its answer.
    pub waiting: u64,
    /// Bytes were on their way to the client.
    pub moving: u64,
}

/// What the kernel counted from the signal until the server had ended, or its deadline came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Since {
    /// Connections ended by the server's side without an answer, or within it.
    pub lost: u64,
    /// Clients that did not wait for their answer.
    pub abandoned: u64,
    /// Whether the server ended by itself.
    pub ended: bool,
}

/// What came of the connections, if that says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// So many were cut.
    Cut(u64),
    /// All got their answers.
    Finished,
    /// Few were lost: cut, or clients that spoke at the moment their idle connections were closed.
    Unclear,
}

/// What `since` says of a signal. A connection that was at rest proves nothing; neither does one
/// in the middle of an answer, whose end in order may be half of it. One that is lost while nobody
/// waited is a client that spoke at the moment of the end, as every server has them, and so may a
/// few be among many that waited: who cuts, cuts most.
pub fn outcome(before: Before, since: Since) -> Option<Outcome> {
    let busy = before.waiting + before.moving;
    let cut = since.lost.min(busy);
    if cut > 0 {
        let most = since.lost.saturating_mul(2) >= busy;
        return Some(if most {
            Outcome::Cut(cut)
        } else {
            Outcome::Unclear
        });
    }
    let answered = before.waiting > 0 && since.lost == 0 && since.abandoned == 0 && since.ended;
    (answered && before.moving == 0).then_some(Outcome::Finished)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDED: Since = Since {
        lost: 0,
        abandoned: 0,
        ended: true,
    };

    #[test]
    fn only_answers_prove_that_a_server_finishes() {
        let before = |waiting, moving| Before { waiting, moving };
        assert_eq!(outcome(before(2, 0), ENDED), Some(Outcome::Finished));
        assert_eq!(outcome(before(0, 0), ENDED), None, "all were at rest");
        assert_eq!(
            outcome(before(2, 1), ENDED),
            None,
            "one may be half an answer"
        );
        let runs = Since {
            ended: false,
            ..ENDED
        };
        assert_eq!(outcome(before(2, 0), runs), None, "the deadline came first");
        let left = Since {
            abandoned: 1,
            ..ENDED
        };
        assert_eq!(outcome(before(2, 0), left), None);
    }

    #[test]
    fn what_was_lost_of_those_who_waited_was_cut() {
        let lost = |lost| Since { lost, ..ENDED };
        let before = Before {
            waiting: 3,
            moving: 0,
        };
        assert_eq!(outcome(before, lost(2)), Some(Outcome::Cut(2)));
        assert_eq!(outcome(before, lost(9)), Some(Outcome::Cut(3)));
        assert_eq!(outcome(before, lost(1)), Some(Outcome::Unclear));
        assert_eq!(outcome(Before::default(), lost(1)), None, "a race, no cut");
    }

    #[test]
    fn the_last_word_counts_and_the_oldest_is_forgotten() {
        let mut habits = Habits::default();
        let term = || "SIGTERM".to_owned();
        let cuts = Seen::Cuts {
            connections: 1,
            generation: "gen1".to_owned(),
            after: Duration::from_secs(2),
        };
        habits.note("/a".to_owned(), term(), Seen::Finishes);
        habits.note("/a".to_owned(), term(), cuts.clone());
        assert_eq!(habits.of("/a", "SIGTERM"), Some(&Habit { seen: cuts }));
        assert_eq!(habits.of("/a", "SIGINT"), None);
        assert_eq!(habits.cuts().count(), 1);
        habits.doubt("/a", "SIGTERM");
        assert_eq!(habits.cuts().count(), 1, "what cut is no doubt");
        habits.note("/c".to_owned(), term(), Seen::Finishes);
        habits.doubt("/c", "SIGTERM");
        assert_eq!(habits.of("/c", "SIGTERM"), None);
        let text = serde_json::to_string(&habits).unwrap();
        assert_eq!(serde_json::from_str::<Habits>(&text).unwrap(), habits);
        for number in 0..REMEMBERED {
            habits.note(format!("/b{number}"), term(), Seen::Finishes);
        }
        assert_eq!(habits.of("/a", "SIGTERM"), None);
        assert!(habits.of("/b0", "SIGTERM").is_some());
    }
}
