//! The table `profile` of a service: profiles that are kept of whatever runs.

use std::{ops::RangeInclusive, time::Duration};

use serde::Deserialize;

use super::policy_tables::Span;

/// Sampling that goes on while generations run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptProfiles {
    /// Samples per second of CPU time.
    pub frequency: u32,
    /// How long a sample is kept.
    pub keep: Duration,
}

const RATES: RangeInclusive<u32> = 1..=99;
const KEEPS: RangeInclusive<Duration> = Duration::from_mins(1)..=Duration::from_hours(1);
const KEEP: Duration = Duration::from_mins(10);

/// `[service.X.profile]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProfileTable {
    continuous: Rate,
    keep: Option<Keep>,
}

impl ProfileTable {
    pub(super) fn resolve(self) -> Option<KeptProfiles> {
        Some(KeptProfiles {
            frequency: self.continuous.0?,
            keep: self.keep.map_or(KEEP, |keep| keep.0),
        })
    }
}

/// "19 Hz", or "off".
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Rate(Option<u32>);

impl TryFrom<String> for Rate {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        let number = text.trim().strip_suffix("Hz").map(str::trim);
        let rate = number.and_then(|number| number.parse().ok());
        match rate.filter(|rate| RATES.contains(rate)) {
            Some(rate) => Ok(Self(Some(rate))),
            None => Err(format!(
                "\"{text}\" is neither a rate from \"{} Hz\" to \"{} Hz\" nor \"off\"",
                RATES.start(),
                RATES.end()
            )),
        }
    }
}

#[derive(Deserialize)]
#[serde(try_from = "Span")]
struct Keep(Duration);

impl TryFrom<Span> for Keep {
    type Error = String;

    fn try_from(Span(keep): Span) -> Result<Self, String> {
        if KEEPS.contains(&keep) {
            return Ok(Self(keep));
        }
        Err(format!(
            "profiles can be kept for {} to {}",
            humantime::format_duration(*KEEPS.start()),
            humantime::format_duration(*KEEPS.end())
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(text: &str) -> Result<Option<KeptProfiles>, String> {
        let table: Result<ProfileTable, _> = toml::from_str(text);
        table
            .map(ProfileTable::resolve)
            .map_err(|error| error.message().to_owned())
    }

    #[test]
    fn a_rate_has_its_unit() {
        let kept = |frequency, keep| Some(KeptProfiles { frequency, keep });
        assert_eq!(resolve("continuous = '19 Hz'"), Ok(kept(19, KEEP)));
        assert_eq!(
            resolve("continuous = '1Hz'\nkeep = '1h'"),
            Ok(kept(1, Duration::from_hours(1)))
        );
        assert_eq!(resolve("continuous = 'off'"), Ok(None));
        for wrong in ["19", "0 Hz", "100 Hz", "-1 Hz", "many Hz", ""] {
            let said = resolve(&format!("continuous = '{wrong}'")).unwrap_err();
            assert!(said.contains("1 Hz") && said.contains("off"), "{said}");
        }
        let said = resolve("continuous = '19 Hz'\nkeep = '2h'").unwrap_err();
        assert!(said.contains("1m to 1h"), "{said}");
        resolve("keep = '10m'").unwrap_err();
        resolve("continuous = '19 Hz'\nrate = 3").unwrap_err();
    }
}
