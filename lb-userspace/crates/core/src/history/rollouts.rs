//! Rollouts as the journal knows them: who wanted what, when, and what came of it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Entry;
use crate::rollout::Phase;

/// A rollout's id, for example "r42". No id is used twice, not even after the history was pruned. Where an id is
/// read, "42" is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(extend("pattern" = "^r[0-9]+$")))]
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum RolloutKind {
    /// Make a generation active that runs already.
    Promote,
    /// Start a generation and make it active, as one rollout.
    Upgrade,
    /// Make the previous generation, or a named one, active again.
    Rollback,
    /// The active generation ended: the kernel chose another one, and the agent made that official.
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The candidate is active.
    Done,
    /// hotlb undid the rollout.
    RolledBack,
    /// hotlb refused the rollout before it changed anything.
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

/// Who asked for a rollout, by the credentials that the kernel gives for the control socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Who {
    /// The user id; `null` for the agent itself, or if the kernel did not say.
    pub uid: Option<u32>,
    /// The process that asked; `null` in the same cases.
    pub pid: Option<u32>,
    /// The user's name at that time; "agent" for what hotlb did by itself.
    pub name: String,
}

/// A generation, named so that it can still be read when it is long gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GenerationRef {
    /// The generation's id.
    pub id: u32,
    /// The generation's name.
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Summary {
    /// The rollout's id; a later rollout has a greater number.
    pub id: RolloutId,
    /// The service's name.
    pub service: String,
    /// Why there is a rollout.
    pub kind: RolloutKind,
    /// The generation that was active; `null` if there was none.
    pub from: Option<GenerationRef>,
    /// The generation that was to become active.
    pub to: GenerationRef,
    /// Who asked for it.
    pub who: Who,
    /// When it began, in milliseconds since 1970. For people: the clock can jump.
    pub began_ms: i64,
    /// How long it took, in milliseconds; `null` while it is not over. By a monotonic clock if one agent did all of it.
    pub took_ms: Option<u64>,
    /// The last phase it entered; `null` before the first.
    pub phase: Option<Phase>,
    /// How it ended; `null` while it is not over.
    pub outcome: Option<Outcome>,
    /// Why it ended so; `null` if there is nothing to say.
    pub reason: Option<String>,
}

/// A rollout with everything that was recorded about it: the answer to `GET /v1/history/{id}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RolloutDetail {
    /// In short.
    #[serde(flatten)]
    pub summary: Summary,
    /// The rollout's trace id: 32 hex digits.
    pub trace: String,
    /// The id of the boot in which it began.
    pub boot: String,
    /// The records, in their order.
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
