//! Hooks: commands that a rollout runs in its phases.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::command_line::shell;
use crate::rollout::Phase;

/// A phase that has hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum HookPhase {
    /// Before hotlb checks the candidate; also the place to fetch what it needs.
    PreLoad,
    /// After the built-in checks of the candidate have passed.
    Validate,
    /// After the new steering word is stored, as a part of the swap: if the hook fails, the rollout is rolled back.
    Swap,
    /// After hotlb has undone the rollout, to undo the rest.
    PostRollback,
}

impl HookPhase {
    /// All of them, in the order of a rollout.
    pub const ALL: [Self; 4] = [
        Self::PreLoad,
        Self::Validate,
        Self::Swap,
        Self::PostRollback,
    ];

    /// The name in the configuration, in the history and to hooks.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PreLoad => "pre_load",
            Self::Validate => "validate",
            Self::Swap => "swap",
            Self::PostRollback => "post_rollback",
        }
    }

    /// What a hook of this phase gets that says nothing about it.
    pub const fn default_deadline(self) -> Duration {
        Duration::from_secs(match self {
            Self::PreLoad => 30,
            Self::Validate => 10,
            Self::Swap => 5,
            Self::PostRollback => 15,
        })
    }
}

impl fmt::Display for HookPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<HookPhase> for Phase {
    fn from(phase: HookPhase) -> Self {
        match phase {
            HookPhase::PreLoad => Self::PreLoad,
            HookPhase::Validate => Self::Validate,
            HookPhase::Swap => Self::Swap,
            HookPhase::PostRollback => Self::PostRollback,
        }
    }
}

impl FromStr for HookPhase {
    type Err = HookError;

    /// The name; hyphens are as good as underscores.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.replace('-', "_");
        Self::ALL
            .into_iter()
            .find(|phase| phase.name() == name)
            .ok_or_else(|| HookError::Phase {
                name: text.escape_debug().to_string(),
            })
    }
}

/// What is wrong with a hook that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HookError {
    /// No `=` in the text.
    #[error(
        "a hook is PHASE=COMMAND, where PHASE is one of {}; for example \
         validate='curl -fsS http://127.0.0.1:8080/healthz'",
        phases()
    )]
    Form,
    /// There is no such phase.
    #[error("unknown hook phase \"{name}\"; expected one of {}", phases())]
    Phase {
        /// What was asked for.
        name: String,
    },
    /// Nothing to run.
    #[error("the command of a {0} hook is empty; name the program to run")]
    Empty(HookPhase),
    /// A deadline nobody can keep, or wait for.
    #[error(
        "a {phase} hook cannot have a deadline of {}: use 1ms to 24h, or omit it for {}",
        humantime::format_duration(*deadline),
        humantime::format_duration(phase.default_deadline())
    )]
    Deadline {
        /// The phase.
        phase: HookPhase,
        /// What was asked for.
        deadline: Duration,
    },
}

fn phases() -> String {
    HookPhase::ALL.map(HookPhase::name).join(", ")
}

/// A command that a rollout runs in one of its phases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(into = "WireHook", try_from = "WireHook")]
pub struct Hook {
    /// When it runs.
    pub phase: HookPhase,
    /// Program and arguments.
    pub command: Vec<String>,
    /// How long it may take, at most: 1 ms to 24 h. Then it is killed, which is a failure.
    pub deadline: Duration,
    /// Whether it may run again when nobody knows how far it came: after a crash of the agent.
    pub reentrant: bool,
}

const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_hours(24);

impl Hook {
    /// A hook with its phase's deadline that must not run twice.
    ///
    /// # Errors
    ///
    /// [`HookError::Empty`].
    pub fn new(phase: HookPhase, command: Vec<String>) -> Result<Self, HookError> {
        Self {
            phase,
            command,
            deadline: phase.default_deadline(),
            reentrant: false,
        }
        .checked()
    }

    /// The hook, if it can be run and waited for.
    ///
    /// # Errors
    ///
    /// [`HookError::Empty`], [`HookError::Deadline`].
    pub fn checked(self) -> Result<Self, HookError> {
        let phase = self.phase;
        if self.command.first().is_none_or(String::is_empty) {
            return Err(HookError::Empty(phase));
        }
        if !(SHORTEST..=LONGEST).contains(&self.deadline) {
            let deadline = self.deadline;
            return Err(HookError::Deadline { phase, deadline });
        }
        Ok(self)
    }
}

impl FromStr for Hook {
    type Err = HookError;

    /// `PHASE=COMMAND`, as `--hook` takes it; a shell runs the command.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (phase, command) = text.split_once('=').ok_or(HookError::Form)?;
        Self::new(phase.trim().parse()?, shell(command))
    }
}

/// A hook in the API.
#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
struct WireHook {
    /// When it runs.
    phase: HookPhase,
    /// Program and arguments.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    command: Vec<String>,
    /// How long it may take, in milliseconds: then hotlb kills it, which is a failure; `null`: as long as its phase
    /// allows.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 86_400_000)))]
    deadline_ms: Option<u64>,
    /// Whether it may run again if the agent was killed while it ran.
    #[serde(default)]
    reentrant: bool,
}

impl From<Hook> for WireHook {
    fn from(hook: Hook) -> Self {
        Self {
            phase: hook.phase,
            command: hook.command,
            deadline_ms: u64::try_from(hook.deadline.as_millis()).ok(),
            reentrant: hook.reentrant,
        }
    }
}

impl TryFrom<WireHook> for Hook {
    type Error = HookError;

    fn try_from(wire: WireHook) -> Result<Self, Self::Error> {
        Self {
            phase: wire.phase,
            command: wire.command,
            deadline: wire
                .deadline_ms
                .map_or(wire.phase.default_deadline(), Duration::from_millis),
            reentrant: wire.reentrant,
        }
        .checked()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_of_the_command_line_is_run_by_a_shell() {
        let hook: Hook = "pre-load=test -e /srv/a=b && true".parse().unwrap();
        assert_eq!(hook.phase, HookPhase::PreLoad);
        assert_eq!(
            hook.command,
            ["/bin/sh", "-c", "test -e /srv/a=b && true"],
            "only the first = divides"
        );
        assert_eq!(hook.deadline, Duration::from_secs(30));
        assert!(!hook.reentrant);
        let same: Hook = "pre_load=true".parse().unwrap();
        assert_eq!(same.phase, HookPhase::PreLoad);
    }

    #[test]
    fn says_what_is_wrong_with_one() {
        let refused = |text: &str| text.parse::<Hook>().unwrap_err().to_string();
        let allowed = "pre_load, validate, swap, post_rollback";
        assert!(refused("curl").contains(allowed), "{}", refused("curl"));
        assert!(refused("bake=true").contains(allowed));
        assert!(refused("bake=true").contains("\"bake\""));
        assert!(refused("\u{1b}=true").contains("\\u{1b}"));
        for empty in ["swap=", "swap=  "] {
            assert!(refused(empty).contains("empty"), "{}", refused(empty));
        }
    }

    #[test]
    fn goes_over_the_wire() {
        let hook: Hook = "swap=true".parse().unwrap();
        let text = serde_json::to_string(&hook).unwrap();
        assert!(text.contains("\"deadline_ms\":5000"), "{text}");
        assert_eq!(serde_json::from_str::<Hook>(&text).unwrap(), hook);
        let short = r#"{"phase":"validate","command":["true"]}"#;
        let hook: Hook = serde_json::from_str(short).unwrap();
        assert_eq!(hook.deadline, Duration::from_secs(10));
        for bad in [
            r#"{"phase":"validate","command":[]}"#,
            r#"{"phase":"validate","command":[""]}"#,
            r#"{"phase":"validate","command":["true"],"deadline_ms":0}"#,
            r#"{"phase":"validate","command":["true"],"deadline_ms":18446744073709551615}"#,
            r#"{"phase":"bake","command":["true"]}"#,
        ] {
            assert!(serde_json::from_str::<Hook>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_deadlines_are_the_documented_ones() {
        let seconds = HookPhase::ALL.map(|phase| phase.default_deadline().as_secs());
        assert_eq!(seconds, [30, 10, 5, 15]);
        for phase in HookPhase::ALL {
            assert_eq!(phase.name().parse(), Ok(phase));
            assert_eq!(Phase::from(phase).name(), phase.name());
        }
    }
}
