//! What is written down of a rollout, step by step.

use std::net::SocketAddr;

use hotlb_values::Losses;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::rollout::Phase;

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Record {
    /// The rollout entered a phase; the work of the phase has not begun.
    Phase {
        /// The phase.
        phase: Phase,
        /// How often the rollout has entered the phase, from 1.
        attempt: u32,
        /// The executor's own state, in a form that may change.
        state: Value,
    },
    /// hotlb is about to store the steering word, or has stored it.
    Word {
        /// False before the store, true after it.
        done: bool,
        /// The id of the generation that gets new connections; `null` for none.
        active: Option<u32>,
        /// The id of the fallback; `null` for none. Journals keep the name that the field had first.
        #[serde(rename = "candidate")]
        fallback: Option<u32>,
        /// The word's epoch.
        #[cfg_attr(feature = "schema", schemars(range(max = 16383)))]
        epoch: u16,
    },
    /// hotlb is about to start a hook.
    HookBegun {
        /// Of which phase.
        phase: Phase,
        /// Its place among the hooks of that phase, from 0.
        index: u32,
        /// Which of its runs, from 1.
        attempt: u32,
        /// The command, in one line.
        command: String,
        /// Whether the hook may run again after a crash of the agent.
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
        /// Whether the hook succeeded.
        ok: bool,
        /// How the hook ended, in words.
        outcome: String,
        /// The hook's output.
        output: String,
        /// Bytes of its output that were not kept.
        dropped: u64,
        /// How long the hook ran, in milliseconds.
        took_ms: u64,
    },
    /// hotlb made a built-in check.
    Check {
        /// The check's name.
        name: String,
        /// Whether the check passed.
        ok: bool,
        /// What the check found.
        detail: String,
        /// How long the check took, in microseconds, where that was measured.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        took_us: Option<u64>,
    },
    /// hotlb measured something.
    Figure {
        /// What was measured.
        name: String,
        /// The result; `null` if it is no number.
        #[serde(deserialize_with = "number")]
        #[cfg_attr(feature = "schema", schemars(with = "Option<f64>"))]
        value: f64,
        /// The unit of `value`.
        unit: String,
    },
    /// hotlb ended connections.
    Cut {
        /// The connections.
        connections: Vec<CutConnection>,
    },
    /// Connections of both generations whose client did not get everything meanwhile.
    Lost {
        /// The connections, by what happened to them.
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CutConnection {
    /// The client's address.
    pub peer: SocketAddr,
    /// The server's address.
    pub local: SocketAddr,
    /// How long the connection had been open, in milliseconds; `null` if hotlb does not know.
    pub age_ms: Option<u64>,
    /// The connection's TCP state.
    pub state: String,
    /// How hotlb ended the connection: "closed", "destroyed" or "killed".
    pub how: String,
}

/// A record of the journal, in its place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Entry {
    /// When it was recorded, in milliseconds since 1970. For people: the clock can jump, so sort by `seq`.
    pub at_ms: i64,
    /// Its place among the records of the rollout, from 1 without gaps.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub seq: u32,
    /// What happened.
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
