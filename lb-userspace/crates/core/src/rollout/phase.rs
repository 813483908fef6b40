//! The phases of a rollout.

use serde::{Deserialize, Serialize};

/// The phase of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// hotlb checks the candidate's program, and starts it if it does not run.
    PreLoad,
    /// The candidate proves that it serves, through the real port.
    Validate,
    /// hotlb stores the steering word, and sees that it has changed.
    Swap,
    /// The candidate is active and on probation; the former generation is kept.
    Bake,
    /// The connections of the former generation end.
    Drain,
    /// The candidate is active for good.
    Done,
    /// hotlb undoes the rollout.
    RollingBack,
    /// Hooks undo what the rollout changed outside hotlb.
    PostRollback,
    /// Everything is as it was before.
    RolledBack,
}

impl Phase {
    /// All phases.
    pub const ALL: [Self; 9] = [
        Self::PreLoad,
        Self::Validate,
        Self::Swap,
        Self::Bake,
        Self::Drain,
        Self::Done,
        Self::RollingBack,
        Self::PostRollback,
        Self::RolledBack,
    ];

    /// The name in the history, in metrics and to hooks.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PreLoad => "pre_load",
            Self::Validate => "validate",
            Self::Swap => "swap",
            Self::Bake => "bake",
            Self::Drain => "drain",
            Self::Done => "done",
            Self::RollingBack => "rolling_back",
            Self::PostRollback => "post_rollback",
            Self::RolledBack => "rolled_back",
        }
    }

    /// Whether the rollout is over.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::RolledBack)
    }
}
