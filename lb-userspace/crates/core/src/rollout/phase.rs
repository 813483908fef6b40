//! The phases of a rollout.

use serde::{Deserialize, Serialize};

/// Where a rollout stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The candidate is loaded: its program is checked, it is started if it does not run yet.
    PreLoad,
    /// The candidate proves that it serves, through the real port.
    Validate,
    /// The word moves, and is seen to have moved.
    Swap,
    /// The candidate is active and on probation; the former generation is kept warm.
    Bake,
    /// The former generation gets rid of its connections.
    Drain,
    /// The candidate is active for good.
    Done,
    /// What was done is undone.
    RollingBack,
    /// Hooks put back what the rollout changed outside hotlb.
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
