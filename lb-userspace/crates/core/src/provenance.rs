//! What is remembered of a generation beside its life: how it came to be, and what somebody else
//! has a hand in.

use std::{collections::BTreeSet, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::rollout::GenerationState;

/// How a generation was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The agent started it.
    #[default]
    Launched,
    /// Another supervisor started it, by `hotlb exec`.
    Exec,
    /// It ran before, and `hotlb adopt` made it a generation.
    Adopted,
}

/// What a generation has outside hotlb. Empty for one that the agent started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Provenance {
    /// How it came to be.
    pub origin: Origin,
    /// Where its processes live, if that is not the place the agent gives to those it starts.
    pub cgroup: Option<PathBuf>,
    /// The systemd service it is.
    pub unit: Option<String>,
    /// The signal that this is stopped by, where it is not the usual one.
    pub unit_signal: Option<String>,
    /// The state in which it ended by itself, or with the host. If that was "active", its
    /// supervisor's next start makes it active again.
    pub ended_from: Option<GenerationState>,
    /// Cookies of its open connections that are older than the counting of them.
    pub earlier: BTreeSet<u64>,
}

impl Provenance {
    /// Remembers in which state it ended without being told to. A start that fails is no end of
    /// its own: whoever was active before it still was the last one.
    pub fn note_end(&mut self, state: GenerationState) {
        if state != GenerationState::Starting {
            self.ended_from = Some(state);
        }
    }

    /// Whether nobody but its own supervisor can start it.
    pub fn is_started_elsewhere(&self) -> bool {
        self.origin == Origin::Exec && self.unit.is_none()
    }

    /// Whether its next start takes the clients over again, if nobody else has.
    pub fn is_awaited(&self) -> bool {
        self.ended_from == Some(GenerationState::Active)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_ledger_says_nothing_of_it() {
        let provenance: Provenance = serde_json::from_str("{}").unwrap();
        assert_eq!(provenance, Provenance::default());
        assert_eq!(provenance.origin, Origin::Launched);
    }

    #[test]
    fn the_last_active_one_is_awaited_through_starts_that_fail() {
        let mut provenance = Provenance::default();
        assert!(!provenance.is_awaited());
        provenance.note_end(GenerationState::Active);
        provenance.note_end(GenerationState::Starting);
        assert!(provenance.is_awaited());
        provenance.note_end(GenerationState::Ready);
        assert!(!provenance.is_awaited());
    }
}
