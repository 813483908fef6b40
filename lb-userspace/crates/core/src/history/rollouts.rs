//! Rollouts as the journal knows them: who wanted what, when, and what came of it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Entry;
use crate::rollout::Phase;

/// Names a rollout for good: ids are never given twice, not even after a prune.
///
/// Written as "r42"; "42" is read too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct RolloutId(pub i64);

/// What was given is no [`RolloutId`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid rollout id \"{}\" (expected r1, r2, …; see `hotlb history`)", .0.escape_debug())]
pub struct NoRolloutId(String);

impl fmt::Display for RolloutId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}

impl FromStr for RolloutId {
    type Err = NoRolloutId;

    fn from_str(text: &str) -> Result<Self, NoRolloutId> {
        let digits = text.strip_prefix('r').unwrap_or(text);
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        match digits.parse() {
            Ok(id) if plain => Ok(Self(id)),
            _ => Err(NoRolloutId(text.to_owned())),
        }
    }
}

impl From<RolloutId> for String {
    fn from(id: RolloutId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for RolloutId {
    type Error = NoRolloutId;

    fn try_from(text: String) -> Result<Self, NoRolloutId> {
        text.parse()
    }
}

/// What was asked for, or why hotlb acted by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutKind {
    /// A generation that ran already was made active.
    Promote,
    /// A generation was deployed and made active in one go.
    Upgrade,
    /// The generation before was made active again.
    Rollback,
    /// The active generation failed, and what the kernel did about it was made official.
    FailOver,
}

impl RolloutKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Promote, Self::Upgrade, Self::Rollback, Self::FailOver];

    /// The name in the journal and in the history.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Promote => "promote",
            Self::Upgrade => "upgrade",
            Self::Rollback => "rollback",
            Self::FailOver => "fail_over",
        }
    }
}

/// How a rollout ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The candidate is active.
    Done,
    /// What had been done was undone.
    RolledBack,
    /// Refused before anything was changed.
    Refused,
}

impl Outcome {
    /// All outcomes.
    pub const ALL: [Self; 3] = [Self::Done, Self::RolledBack, Self::Refused];

    /// The name in the journal and in the history.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::RolledBack => "rolled_back",
            Self::Refused => "refused",
        }
    }
}

/// Who wanted it, by the credentials the kernel gives for the control socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// The user; `None` for the agent itself, or when the kernel did not say.
    pub uid: Option<u32>,
    /// The process that asked.
    pub pid: Option<u32>,
    /// The user's name when it asked; "agent" for what hotlb did by itself.
    pub name: String,
}

/// A generation, named so that it can still be read when it is long gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationRef {
    /// Its id.
    pub id: u32,
    /// Its name.
    pub name: String,
}

/// A rollout that is about to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRollout {
    /// Its service.
    pub service: String,
    /// Why there is one.
    pub kind: RolloutKind,
    /// Who was active; `None` for nobody.
    pub from: Option<GenerationRef>,
    /// Who is to be active.
    pub to: GenerationRef,
    /// Who wanted it.
    pub who: Who,
    /// Its trace id: 32 hex digits.
    pub trace: String,
    /// The boot it runs in: pids and cgroups of another one mean nothing.
    pub boot: String,
}

/// How a rollout ended, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// How.
    pub outcome: Outcome,
    /// Why, if there is something to say.
    pub reason: Option<String>,
}

/// Which rollouts to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryFilter {
    /// Of this service only.
    pub service: Option<String>,
    /// At most so many, the newest ones; `None` for all.
    pub limit: Option<u32>,
}

/// A rollout in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Its id; a later rollout has a greater one.
    pub id: RolloutId,
    /// Its service.
    pub service: String,
    /// Why there is one.
    pub kind: RolloutKind,
    /// Who was active; `None` for nobody.
    pub from: Option<GenerationRef>,
    /// Who was to be active.
    pub to: GenerationRef,
    /// Who wanted it.
    pub who: Who,
    /// When it began, in milliseconds since 1970. For people: clocks jump.
    pub began_ms: i64,
    /// How long it took, in milliseconds; `None` while it is not over. Measured by a monotonic
    /// clock as long as one agent did all of it.
    pub took_ms: Option<u64>,
    /// The last phase it entered; `None` before the first.
    pub phase: Option<Phase>,
    /// How it ended; `None` while it has not.
    pub outcome: Option<Outcome>,
    /// Why it ended so, if there is something to say.
    pub reason: Option<String>,
}

/// A rollout with everything that was written down about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolloutDetail {
    /// In short.
    #[serde(flatten)]
    pub summary: Summary,
    /// Its trace id: 32 hex digits.
    pub trace: String,
    /// The boot it began in.
    pub boot: String,
    /// The records, in the order in which they were written.
    pub entries: Vec<Entry>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written() {
        for text in ["r42", "42"] {
            assert_eq!(text.parse(), Ok(RolloutId(42)));
        }
        assert_eq!(RolloutId(42).to_string(), "r42");
        for text in ["", "r", "r-1", "+1", "rr1", "gen1", "r99999999999999999999"] {
            text.parse::<RolloutId>().unwrap_err();
        }
        assert_eq!(serde_json::to_string(&RolloutId(7)).unwrap(), "\"r7\"");
        assert_eq!(
            serde_json::from_str::<RolloutId>("\"r7\"").unwrap(),
            RolloutId(7)
        );
    }

    #[test]
    fn names_are_those_of_the_json() {
        for kind in RolloutKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
        for outcome in Outcome::ALL {
            assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.name());
        }
    }
}
