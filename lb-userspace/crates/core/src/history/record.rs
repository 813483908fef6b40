//! What is written down of a rollout, step by step.

use std::net::SocketAddr;

use hotlb_values::Losses;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::rollout::Phase;

/// One record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Record {
    /// A phase was entered; its work has not begun.
    Phase {
        /// Which.
        phase: Phase,
        /// How often it was entered so far, from 1.
        attempt: u32,
        /// The executor's own state, opaque here.
        state: Value,
    },
    /// The steering word is about to be stored, or was.
    Word {
        /// False for the intent, true once it is stored.
        done: bool,
        /// The generation that gets new connections.
        active: Option<u32>,
        /// The fallback. Journals keep the name that it had first.
        #[serde(rename = "candidate")]
        fallback: Option<u32>,
        /// The word's epoch.
        epoch: u16,
    },
    /// A hook is about to be started.
    HookBegun {
        /// Of which phase.
        phase: Phase,
        /// Its place among the hooks of that phase, from 0.
        index: u32,
        /// How often it was started so far, from 1.
        attempt: u32,
        /// What is run.
        command: String,
        /// Whether it may be run again after a crash.
        reentrant: bool,
    },
    /// A hook has ended.
    HookEnded {
        /// Of which phase.
        phase: Phase,
        /// Its place among the hooks of that phase, from 0.
        index: u32,
        /// Which of its runs, from 1.
        attempt: u32,
        /// Whether it succeeded.
        ok: bool,
        /// How it ended, in words.
        outcome: String,
        /// What it wrote.
        output: String,
        /// Bytes of its output that were not kept.
        dropped: u64,
        /// How long it ran, in milliseconds.
        took_ms: u64,
    },
    /// A built-in check was made.
    Check {
        /// Which.
        name: String,
        /// Whether it passed.
        ok: bool,
        /// What was found.
        detail: String,
        /// How long it took, in microseconds, where that was measured.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        took_us: Option<u64>,
    },
    /// Something was measured.
    Figure {
        /// What.
        name: String,
        /// How much. One that is no number is written as `null`.
        #[serde(deserialize_with = "number")]
        value: f64,
        /// The unit of `value`.
        unit: String,
    },
    /// Connections were ended by hotlb.
    Cut {
        /// Which.
        connections: Vec<CutConnection>,
    },
    /// What clients did not get all from meanwhile, of both generations.
    Lost {
        /// By what happened to them.
        lost: Losses,
    },
    /// Something to know, in words.
    Note {
        /// The words.
        text: String,
    },
}

impl Record {
    /// The name of its kind, as in its JSON.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Phase { .. } => "phase",
            Self::Word { .. } => "word",
            Self::HookBegun { .. } => "hook_begun",
            Self::HookEnded { .. } => "hook_ended",
            Self::Check { .. } => "check",
            Self::Figure { .. } => "figure",
            Self::Cut { .. } => "cut",
            Self::Lost { .. } => "lost",
            Self::Note { .. } => "note",
        }
    }
}

/// A connection that hotlb ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutConnection {
    /// The client.
    pub peer: SocketAddr,
    /// The server's side.
    pub local: SocketAddr,
    /// How long it had been open, in milliseconds, if that is known.
    pub age_ms: Option<u64>,
    /// Its TCP state.
    pub state: String,
    /// How it was ended.
    pub how: String,
}

/// A record in its place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When, in milliseconds since 1970. For people: clocks jump, the order is that of `seq`.
    pub at_ms: i64,
    /// Its place among the records of its rollout, from 1 without gaps.
    pub seq: u32,
    /// What.
    pub record: Record,
}

/// JSON has no word for what is no number: it is written as `null`.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each kind.
    fn all() -> Vec<Record> {
        let text = String::new;
        vec![
            Record::Phase {
                phase: Phase::Swap,
                attempt: 2,
                state: serde_json::json!({"deep": [1, null, "x"]}),
            },
            Record::Word {
                done: true,
                active: Some(2),
                fallback: None,
                epoch: 16_383,
            },
            Record::HookBegun {
                phase: Phase::PreLoad,
                index: 0,
                attempt: 1,
                command: text(),
                reentrant: false,
            },
            Record::HookEnded {
                phase: Phase::PostRollback,
                index: 3,
                attempt: 1,
                ok: false,
                outcome: text(),
                output: "\u{0}\u{1b}[31m\n".to_owned(),
                dropped: u64::MAX,
                took_ms: 7,
            },
            Record::Check {
                name: text(),
                ok: true,
                detail: text(),
                took_us: Some(1),
            },
            Record::Figure {
                name: text(),
                value: 0.1,
                unit: text(),
            },
            Record::Cut {
                connections: vec![CutConnection {
                    peer: "[2001:db8::1]:1".parse().unwrap(),
                    local: "127.0.0.1:80".parse().unwrap(),
                    age_ms: None,
                    state: text(),
                    how: text(),
                }],
            },
            Record::Lost {
                lost: Losses {
                    queued: 1,
                    abandoned: u64::from(u32::MAX),
                    ..Losses::default()
                },
            },
            Record::Note { text: text() },
        ]
    }

    #[test]
    fn every_kind_is_read_as_it_was_written() {
        for record in all() {
            let json = serde_json::to_value(&record).unwrap();
            assert_eq!(json["kind"], record.kind());
            assert_eq!(serde_json::from_value::<Record>(json).unwrap(), record);
        }
    }

    #[test]
    fn a_figure_that_is_no_number_stays_readable() {
        let record = Record::Figure {
            name: "p99".to_owned(),
            value: f64::INFINITY,
            unit: "ms".to_owned(),
        };
        let json = serde_json::to_string(&record).unwrap();
        let Record::Figure { value, .. } = serde_json::from_str(&json).unwrap() else {
            panic!("{json}");
        };
        assert!(value.is_nan());
    }
}
