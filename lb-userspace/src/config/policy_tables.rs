//! The tables `drain` and `keep` of `hotlb.toml`.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde::{Deserialize, Deserializer, de};

use super::policy::{DrainPolicy, KeepPolicy, Leftovers, LongLived, PoliteMode};

/// A duration as people write it: "30s", "1m 30s".
pub(super) struct Span(pub(super) Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text)
            .map(Span)
            .map_err(|error| de::Error::custom(format!("\"{text}\" is no duration: {error}")))
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct DrainTable {
    signal: Option<SignalName>,
    signal_after: Option<Span>,
    deadline: Option<Span>,
    hung_after: Option<Span>,
    long_lived: Option<LongLivedTable>,
    leftovers: Option<Leftovers>,
    #[serde(default)]
    polite: PoliteMode,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LongLivedTable {
    after: Span,
    deadline: Span,
}

impl DrainTable {
    /// The policy, with the usual values for what is not said.
    pub(super) fn resolve(self) -> DrainPolicy {
        let usual = DrainPolicy::default();
        let or = |span: Option<Span>, usual| span.map_or(usual, |span| span.0);
        DrainPolicy {
            signal: self.signal.map(|signal| signal.0),
            signal_after: or(self.signal_after, usual.signal_after),
            deadline: or(self.deadline, usual.deadline),
            hung_after: or(self.hung_after, usual.hung_after),
            long_lived: self.long_lived.map(|long| LongLived {
                after: long.after.0,
                deadline: long.deadline.0,
            }),
            leftovers: self.leftovers.unwrap_or_default(),
            polite: self.polite,
        }
    }
}

/// `keep = "10m"`, or a table.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a duration like \"10m\", or { generations, for, freeze }"
)]
pub(super) enum Keep {
    Table(KeepTable),
    Time(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeepTable {
    generations: Option<usize>,
    r#for: Option<Span>,
    #[serde(default)]
    freeze: bool,
}

/// Generations that can be kept at most: each has a seat, of which there are 127.
const MOST_KEPT: usize = 64;

impl Keep {
    /// The policy, or why it cannot be.
    pub(super) fn resolve(self) -> Result<KeepPolicy, String> {
        let usual = KeepPolicy::default();
        match self {
            Self::Time(text) => humantime::parse_duration(&text)
                .map(|time| KeepPolicy { time, ..usual })
                .map_err(|error| format!("\"{text}\" is no duration: {error}")),
            Self::Table(table) => {
                let generations = table.generations.unwrap_or(usual.generations);
                if generations > MOST_KEPT {
                    return Err(format!("at most {MOST_KEPT} generations can be kept"));
                }
                Ok(KeepPolicy {
                    generations,
                    time: table.r#for.map_or(usual.time, |span| span.0),
                    freeze: table.freeze,
                })
            }
        }
    }
}

struct SignalName(Signal);

impl<'de> Deserialize<'de> for SignalName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let upper = text.to_ascii_uppercase();
        let name = if upper.starts_with("SIG") {
            upper
        } else {
            format!("SIG{upper}")
        };
        name.parse()
            .map(SignalName)
            .map_err(|_unknown| de::Error::custom(format!("\"{text}\" is no signal")))
    }
}
