//! How much of the history is kept.

use std::{num::NonZeroU32, time::Duration};

use serde::{Deserialize, Deserializer};

use super::policy_tables::some_time;

/// When a finished rollout is forgotten: as soon as one of the limits is exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// So many of the newest rollouts are kept, of all services together; 1 or more.
    pub rollouts: u32,
    /// For so long; more than nothing.
    pub age: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            rollouts: 1000,
            age: Duration::from_hours(90 * 24),
        }
    }
}

/// `history` in `[agent]`.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryTable {
    rollouts: Option<NonZeroU32>,
    #[serde(default, deserialize_with = "age")]
    r#for: Option<Duration>,
}

fn age<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    some_time(deserializer, "history retention must be greater than zero")
}

impl HistoryTable {
    pub(super) fn resolve(self) -> Retention {
        let usual = Retention::default();
        Retention {
            rollouts: self.rollouts.map_or(usual.rollouts, NonZeroU32::get),
            age: self.r#for.unwrap_or(usual.age),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retention_of_nothing_is_pointed_at() {
        let text = "rollouts = 5\nfor = \"0s\"";
        let table: HistoryTable = toml::from_str(&text.replace("0s", "2h")).unwrap();
        let kept = Retention {
            rollouts: 5,
            age: Duration::from_hours(2),
        };
        assert_eq!(table.resolve(), kept);
        for (wrong, expected) in [
            ("\"0s\"", "history retention must be greater than zero"),
            ("\"soon\"", "\"soon\" is not a duration: "),
            ("12345", "invalid type: integer `12345`"),
        ] {
            let text = text.replace("\"0s\"", wrong);
            let error = toml::from_str::<HistoryTable>(&text).err().unwrap();
            assert!(error.message().starts_with(expected), "{error}");
            assert_eq!(&text[error.span().unwrap()], wrong);
        }
    }
}
