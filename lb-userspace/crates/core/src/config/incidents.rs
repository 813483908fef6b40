//! What is done about unusual windows, and how many incidents are kept.

use std::{num::NonZeroU32, time::Duration};

use serde::{Deserialize, Deserializer};

use super::policy_tables::{Span, some_time};
use crate::incident::Limits;

/// What is done about unusual windows of a service.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IncidentPolicy {
    /// Whether windows are looked at at all.
    pub enabled: bool,
    /// Whether stacks are sampled of an anomaly. That reads the memory of servers: only who writes
    /// the configuration has it done.
    pub stacks: bool,
    /// When, and how often, one is looked at closely.
    pub limits: Limits,
}

/// How many incidents are kept: the oldest go as soon as one of the limits is exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IncidentRetention {
    /// So many, of all services together; 1 or more.
    pub count: u32,
    /// So many bytes in the database, all together.
    pub bytes: u64,
    /// For so long; more than nothing.
    pub age: Duration,
}

impl Default for IncidentPolicy {
    fn default() -> Self {
        Self {
            enabled: true,
            stacks: false,
            limits: Limits {
                threshold: 0.6,
                pause: Duration::from_mins(1),
                per_hour: 6,
            },
        }
    }
}

const MEGABYTE: u64 = 1_000_000;

impl Default for IncidentRetention {
    fn default() -> Self {
        Self {
            count: 200,
            bytes: 64 * MEGABYTE,
            age: Duration::from_hours(30 * 24),
        }
    }
}

/// `incidents` of a service: a table, or false.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "true, false, or { stacks, threshold, pause, per_hour }"
)]
pub(super) enum Incidents {
    Enabled(bool),
    Table(IncidentTable),
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct IncidentTable {
    enabled: Option<bool>,
    #[serde(default)]
    stacks: bool,
    threshold: Option<f64>,
    pause: Option<Span>,
    per_hour: Option<u32>,
}

/// More in an hour would follow each other without a pause.
const MOST_PER_HOUR: u32 = 3_600;

impl Incidents {
    /// The policy, or why it cannot be.
    pub(super) fn resolve(self) -> Result<IncidentPolicy, String> {
        let usual = IncidentPolicy::default();
        let table = match self {
            Self::Enabled(enabled) => return Ok(IncidentPolicy { enabled, ..usual }),
            Self::Table(table) => table,
        };
        let threshold = table.threshold.unwrap_or(usual.limits.threshold);
        if !(0.1..1.0).contains(&threshold) {
            return Err(format!(
                "invalid threshold {threshold}: use 0.1 to 0.99, usually 0.6 (scores are from 0 to \
                 1, and normal windows score above 0, too)"
            ));
        }
        let per_hour = table.per_hour.unwrap_or(usual.limits.per_hour);
        if !(1..=MOST_PER_HOUR).contains(&per_hour) {
            return Err(format!(
                "invalid per_hour = {per_hour}: use 1 to {MOST_PER_HOUR}, or `incidents = false` \
                 for none at all"
            ));
        }
        Ok(IncidentPolicy {
            enabled: table.enabled.unwrap_or(usual.enabled),
            stacks: table.stacks,
            limits: Limits {
                threshold,
                pause: table.pause.map_or(usual.limits.pause, |Span(pause)| pause),
                per_hour,
            },
        })
    }
}

/// `incidents` in `[agent]`.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct IncidentRetentionTable {
    count: Option<NonZeroU32>,
    megabytes: Option<NonZeroU32>,
    #[serde(default, deserialize_with = "age")]
    r#for: Option<Duration>,
}

fn age<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let refusal = "incident retention must be greater than zero; with `incidents = false`, a \
                   service has no incidents";
    some_time(deserializer, refusal)
}

impl IncidentRetentionTable {
    pub(super) fn resolve(self) -> IncidentRetention {
        let usual = IncidentRetention::default();
        let bytes = |megabytes: NonZeroU32| u64::from(megabytes.get()) * MEGABYTE;
        IncidentRetention {
            count: self.count.map_or(usual.count, NonZeroU32::get),
            bytes: self.megabytes.map_or(usual.bytes, bytes),
            age: self.r#for.unwrap_or(usual.age),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Service {
        incidents: Incidents,
    }

    fn read(value: &str) -> Result<IncidentPolicy, String> {
        let service: Result<Service, _> = toml::from_str(&format!("incidents = {value}"));
        let service = service.map_err(|error| error.message().to_owned())?;
        service.incidents.resolve()
    }

    #[test]
    fn a_service_says_how() {
        assert_eq!(read("true"), Ok(IncidentPolicy::default()));
        assert!(!read("false").unwrap().enabled);
        let policy = read("{ stacks = true, threshold = 0.8, pause = \"5s\", per_hour = 60 }");
        let policy = policy.unwrap();
        assert!(policy.enabled && policy.stacks);
        let limits = Limits {
            threshold: 0.8,
            pause: Duration::from_secs(5),
            per_hour: 60,
        };
        assert_eq!(policy.limits, limits);
    }

    #[test]
    fn says_what_is_wrong() {
        for (value, expected) in [
            ("{ threshold = 1.5 }", "invalid threshold 1.5:"),
            ("{ threshold = 0 }", "invalid threshold 0:"),
            ("{ threshold = nan }", "invalid threshold NaN:"),
            ("{ per_hour = 0 }", "invalid per_hour = 0:"),
            ("{ per_hour = 100000 }", "invalid per_hour = 100000:"),
            ("{ stack = true }", "true, false, or { stacks"),
            ("\"on\"", "true, false, or { stacks"),
        ] {
            let error = read(value).unwrap_err();
            assert!(error.contains(expected), "{value}: {error}");
        }
    }

    #[test]
    fn retention_is_read() {
        let table: IncidentRetentionTable =
            toml::from_str("count = 5\nmegabytes = 2\nfor = \"1d\"").unwrap();
        let retention = IncidentRetention {
            count: 5,
            bytes: 2_000_000,
            age: Duration::from_hours(24),
        };
        assert_eq!(table.resolve(), retention);
        for text in ["count = 0", "megabytes = 0", "for = \"0s\"", "age = 1"] {
            assert!(
                toml::from_str::<IncidentRetentionTable>(text).is_err(),
                "{text}"
            );
        }
    }
}
