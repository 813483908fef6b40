//! How the agent logs: `[log]`.

use serde::Deserialize;

/// How lines of the log look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON value a line.
    Json,
}

/// How the agent logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// How lines look.
    pub format: LogFormat,
    /// What is said, as tracing's `EnvFilter` reads it; `HOTLB_LOG` comes first.
    pub level: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            format: LogFormat::default(),
            level: "info".to_owned(),
        }
    }
}

/// `[log]`.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct LogTable {
    #[serde(default)]
    format: LogFormat,
    level: Option<Level>,
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Level(String);

impl TryFrom<String> for Level {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        LogConfig::check(&text)?;
        Ok(Self(text))
    }
}

impl LogConfig {
    /// Why `text` is no level, if it is none. A single word that is no level would be taken for a
    /// module, and silence all others.
    ///
    /// # Errors
    ///
    /// A sentence for whoever wrote it.
    pub fn check(text: &str) -> Result<(), String> {
        let levels = ["error", "warn", "info", "debug", "trace", "off"];
        let bare = |part: &str| !part.contains(['=', ':', '[']);
        let known = |part: &str| levels.contains(&part.to_ascii_lowercase().as_str());
        let mut parts = text.split(',').map(str::trim);
        let named = !text.trim().is_empty() && parts.all(|part| !bare(part) || known(part));
        if named && text.parse::<tracing_subscriber::EnvFilter>().is_ok() {
            return Ok(());
        }
        Err(format!(
            "\"{text}\" is not a log level; expected error, warn, info, debug or trace, also for \
             single modules: \"info,hotlb::agent=debug\""
        ))
    }

    /// A level as `EnvFilter` reads it, which names parts by their crates.
    pub fn filter(text: &str) -> String {
        let directives = text.split(',').map(str::trim).map(|directive| {
            let path = directive.strip_prefix("hotlb::");
            let part = path.and_then(|path| path.split([':', '=', '[']).next());
            match (path, part.and_then(crate_of)) {
                (Some(path), Some(of)) => format!("{of}{path}"),
                _ => directive.to_owned(),
            }
        });
        directives.collect::<Vec<_>>().join(",")
    }
}

/// The crate that has a part: the documents say `hotlb::agent` wherever that is.
fn crate_of(part: &str) -> Option<&'static str> {
    match part {
        "agent" | "daemon" | "server" | "takeover" => Some("hotlb_agent::"),
        "config" | "incident" | "rollout" => Some("hotlb_core::"),
        // These are crates themselves.
        "api" | "datapath" | "generation" | "profile" | "store" | "sys" | "telemetry" => {
            Some("hotlb_")
        }
        _ => None,
    }
}

impl LogTable {
    pub(super) fn resolve(self) -> LogConfig {
        let usual = LogConfig::default();
        LogConfig {
            format: self.format,
            level: self.level.map_or(usual.level, |level| level.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_found_in_its_crate() {
        let written = "info, hotlb::agent=debug,hotlb::agent::service[rollout]=trace,hotlb::rollout=off,\
                       hotlb::datapath::pins=warn,hotlb::store=debug,hotlb::relay=info,hotlb=debug";
        let read = "info,hotlb_agent::agent=debug,hotlb_agent::agent::service[rollout]=trace,\
                    hotlb_core::rollout=off,hotlb_datapath::pins=warn,hotlb_store=debug,hotlb::relay=info,hotlb=debug";
        assert_eq!(LogConfig::filter(written), read);
    }
}
