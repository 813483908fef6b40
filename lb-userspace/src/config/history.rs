//! How much of the history is kept.

use std::{num::NonZeroU32, time::Duration};

use serde::{Deserialize, Deserializer, de};

use super::policy_tables::Span;

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
    r#for: Option<Age>,
}

struct Age(Duration);

impl<'de> Deserialize<'de> for Age {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Span(age) = Span::deserialize(deserializer)?;
        if age.is_zero() {
            return Err(de::Error::custom(
                "history retention must be greater than zero",
            ));
        }
        Ok(Self(age))
    }
}

impl HistoryTable {
    pub(super) fn resolve(self) -> Retention {
        let usual = Retention::default();
        Retention {
            rollouts: self.rollouts.map_or(usual.rollouts, NonZeroU32::get),
            age: self.r#for.map_or(usual.age, |age| age.0),
        }
    }
}
