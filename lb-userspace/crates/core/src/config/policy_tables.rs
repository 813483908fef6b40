//! The tables `drain` and `keep` of `hotlb.toml`.

use std::time::Duration;

use hotlb_sys::clock::FOR_EVER;
use nix::sys::signal::Signal;
use serde::{Deserialize, Deserializer, de};

use super::policy::{DrainPolicy, KeepPolicy, Leftovers, LongLived, PoliteMode};

/// A duration as people write it: "30s", "1m 30s". A number that is larger than any wait, which is
/// how some write "for ever", is that long.
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Span(pub(super) Duration);

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        humantime::parse_duration(&text)
            .map(|span| Self(span.min(FOR_EVER)))
            .map_err(|error| format!("\"{text}\" is not a duration: {error}"))
    }
}

/// Reads a duration that is more than nothing; `refusal` says what else there is.
pub(super) fn some_time<'de, D: Deserializer<'de>>(
    deserializer: D,
    refusal: &'static str,
) -> Result<Option<Duration>, D::Error> {
    let Span(time) = Span::deserialize(deserializer)?;
    if time.is_zero() {
        return Err(de::Error::custom(refusal));
    }
    Ok(Some(time))
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct DrainTable {
    signal: Option<SignalName>,
    signal_after: Option<Span>,
    deadline: Option<Span>,
    stop_deadline: Option<StopSpan>,
    hung_after: Option<Span>,
    long_lived: Option<LongLivedTable>,
    leftovers: Option<Leftovers>,
    #[serde(default)]
    polite: PoliteMode,
}

/// A duration that is not zero.
#[derive(Deserialize)]
#[serde(try_from = "Span")]
struct StopSpan(Duration);

impl TryFrom<Span> for StopSpan {
    type Error = &'static str;

    fn try_from(Span(time): Span) -> Result<Self, &'static str> {
        if time < Duration::from_secs(1) {
            return Err(
                "a stop_deadline of less than a second would kill a data store before it has saved \
                 anything: set the time that its last checkpoint may take, or omit the key (10m)",
            );
        }
        Ok(Self(time))
    }
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
            signal_after: self.signal_after.map(|span| span.0),
            deadline: or(self.deadline, usual.deadline),
            stop_deadline: self
                .stop_deadline
                .map_or(usual.stop_deadline, |span| span.0),
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
                .map(|time| KeepPolicy {
                    time: time.min(FOR_EVER),
                    ..usual
                })
                .map_err(|error| format!("\"{text}\" is not a duration: {error}")),
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

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct SignalName(Signal);

impl TryFrom<String> for SignalName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let upper = text.to_ascii_uppercase();
        let name = if upper.starts_with("SIG") {
            upper
        } else {
            format!("SIG{upper}")
        };
        let signal: Signal = name
            .parse()
            .map_err(|_unknown| format!("\"{text}\" is not a signal"))?;
        match signal {
            Signal::SIGSTOP | Signal::SIGCONT => Err(format!(
                "no server ends on {signal}: name the signal that ends it, or omit the key"
            )),
            signal => Ok(Self(signal)),
        }
    }
}
