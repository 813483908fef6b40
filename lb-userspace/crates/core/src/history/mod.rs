//! What is remembered of rollouts: the values that the journal keeps and the API tells.

mod record;
mod rollouts;

pub use record::{CutConnection, Entry, Record};
pub use rollouts::{
    End, GenerationRef, HistoryFilter, NewRollout, NoRolloutId, Outcome, RolloutDetail, RolloutId,
    RolloutKind, Summary, Who,
};
