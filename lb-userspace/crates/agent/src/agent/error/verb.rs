//! Why a verb did nothing.

use std::io;

use thiserror::Error;

use super::{AdoptError, HostError, Now, UpgradeError};
use crate::{
    config::ConfigError,
    generation::launch::LaunchError,
    rollout::{GenerationState, Unpromotable},
    store::journal::JournalError,
};

/// Why a verb did not do what it was asked to. The traffic is as it was before.
#[derive(Debug, Error)]
pub enum VerbError {
    /// There is no such service.
    #[error("no service {name}; there {}", there_are(known))]
    UnknownService {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// It has no UDP side.
    #[error("service {0} has no udp:// address, and therefore no flows")]
    NoDatagrams(String),
    /// No service was named and there are several.
    #[error("several services run; name one with --service ({})", .0.join(", "))]
    WhichService(Vec<String>),
    /// There is no such generation.
    #[error(
        "service {service} has no generation {name}; there {}",
        there_are(known)
    )]
    UnknownGeneration {
        /// The service.
        service: String,
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The name is taken.
    #[error(
        "generation {name} already exists ({}); choose another name, or omit --generation",
        state.name()
    )]
    NameTaken {
        /// The name.
        name: String,
        /// Its owner's state.
        state: GenerationState,
    },
    /// A name that cannot be used.
    #[error(transparent)]
    Name(ConfigError),
    /// Another rollout runs.
    #[error("{0} is being deployed; wait, or cancel it with `hotlb stop {0}`")]
    Busy(String),
    /// The generation cannot be promoted.
    #[error("{generation} cannot be promoted: {reason}")]
    Unpromotable {
        /// Its name.
        generation: String,
        /// Why not.
        reason: Unpromotable,
    },
    /// A rollback cannot lead to the generation.
    #[error("cannot roll back to {generation}: {reason}")]
    NoWayBack {
        /// Its name.
        generation: String,
        /// Why not.
        reason: Unpromotable,
    },
    /// The generation did not pass the checks before a promote.
    #[error("{generation} is not ready: {check}; nothing was changed")]
    NotReady {
        /// Its name.
        generation: String,
        /// Which check failed, and how.
        check: String,
    },
    /// The candidate did not become ready; it was stopped.
    #[error(
        "{generation} did not become ready: {check}; it was stopped, {now}{}",
        quoted(output)
    )]
    NeverReady {
        /// Its name.
        generation: String,
        /// Which check failed, and how.
        check: String,
        /// Whether it ended by itself.
        ended: bool,
        /// Its last lines on stdout and stderr.
        output: Vec<String>,
        /// Who serves now.
        now: Now,
    },
    /// What would be started again is not what it was, or cannot be.
    #[error("{generation} cannot be started again as it was: {why}; {advice}")]
    NotAgain {
        /// Its name.
        generation: String,
        /// What is different.
        why: String,
        /// What to do.
        advice: &'static str,
    },
    /// The active generation cannot be stopped.
    #[error(
        "{0} is active; promote another generation first, or let clients wait without one: `hotlb \
         stop --park {0}`"
    )]
    ActiveStop(String),
    /// `down` is ending the service.
    #[error("the service is shutting down")]
    GoingDown,
    /// A rollout goes on.
    #[error("{rollout} is in progress (phase: {phase}); wait, or cancel it with `hotlb rollback`")]
    RolloutRuns {
        /// Its name.
        rollout: String,
        /// Where it stands.
        phase: &'static str,
    },
    /// A hook failed.
    #[error(
        "the {phase} hook `{command}` {outcome}; traffic is where it was before{}",
        quoted(output)
    )]
    HookFailed {
        /// Its phase.
        phase: &'static str,
        /// What it runs.
        command: String,
        /// How it went.
        outcome: String,
        /// Its last lines.
        output: Vec<String>,
    },
    /// A candidate failed on probation.
    #[error("{generation} failed its bake: {why}; {now}")]
    BakeFailed {
        /// Its name.
        generation: String,
        /// How it failed.
        why: String,
        /// Who is active now.
        now: Now,
    },
    /// Somebody called the rollout off.
    #[error("{rollout} was cancelled: {reason}")]
    CalledOff {
        /// Its name.
        rollout: String,
        /// Who, or why.
        reason: String,
    },
    /// A defect.
    #[error(
        "a bug in hotlb aborted {what} ({reason}); `hotlb status` shows the present state; please \
         report this with the agent's log"
    )]
    Broke {
        /// "the deploy of gen2".
        what: String,
        /// What the panic said.
        reason: String,
    },
    /// The journal cannot be written.
    #[error(
        "{0}; a rollout needs the journal: traffic is where it was before, and `hotlb rollback` \
         works"
    )]
    Unjournaled(JournalError),
    /// There is nothing to roll back to.
    #[error("nothing to roll back to: {0}")]
    NothingBefore(String),
    /// Somebody else has the ports.
    #[error("{0}")]
    AwaitsAdopt(String),
    /// A running server is not adopted.
    #[error(transparent)]
    Adopt(#[from] AdoptError),
    /// Its supervisor must start it.
    #[error(
        "{generation} has ended, and its own supervisor starts it, not the agent{why}: start it \
         there ({command}), then run `hotlb promote {generation}`"
    )]
    StartedElsewhere {
        /// The generation.
        generation: String,
        /// Its command.
        command: String,
        /// " (what failed)", or nothing.
        why: String,
    },
    /// There is no profile.
    #[error("{message}")]
    Profile {
        /// For programs.
        code: &'static str,
        /// Why.
        message: String,
        /// The exit code.
        exit: u8,
    },
    /// The server was not started.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The host.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The agent was not upgraded.
    #[error(transparent)]
    Upgrade(#[from] UpgradeError),
    /// Anything else the system said.
    #[error("{doing}: {source}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl VerbError {
    /// In one line, without the output that people also want to see.
    pub(in crate::agent) fn summary(&self) -> String {
        match self {
            Self::NeverReady { check, .. } => check.clone(),
            Self::HookFailed {
                phase,
                command,
                outcome,
                ..
            } => format!("the {phase} hook `{command}` {outcome}"),
            Self::BakeFailed { why, .. } => why.clone(),
            Self::CalledOff { reason, .. } => reason.clone(),
            Self::Broke { what, reason } => format!("a bug in hotlb aborted {what} ({reason})"),
            other => other.to_string(),
        }
    }

    /// A short name for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownService { .. } => "unknown_service",
            Self::WhichService(_) => "which_service",
            Self::NoDatagrams(_) => "no_udp",
            Self::UnknownGeneration { .. } => "unknown_generation",
            Self::NameTaken { .. } => "name_taken",
            Self::Name(_) => "bad_name",
            Self::Busy(_) => "busy",
            Self::Unpromotable { .. } | Self::NoWayBack { .. } => "unpromotable",
            Self::NotReady { .. } => "not_ready",
            Self::NeverReady { .. } => "never_ready",
            Self::NotAgain { .. } => "not_again",
            Self::ActiveStop(_) => "active",
            Self::GoingDown => "going_down",
            Self::RolloutRuns { .. } => "rollout_runs",
            Self::HookFailed { .. } => "hook_failed",
            Self::BakeFailed { .. } => "bake_failed",
            Self::CalledOff { .. } => "called_off",
            Self::Broke { .. } => "broke",
            Self::NothingBefore(_) => "nothing_before",
            Self::AwaitsAdopt(_) => "awaits_adopt",
            Self::Profile { code, .. } => code,
            Self::Adopt(error) => error.code(),
            Self::StartedElsewhere { .. } => "started_elsewhere",
            Self::Launch(error) if error.is_of_the_host() => "host",
            Self::Launch(_) => "not_started",
            Self::Journal(JournalError::UnknownRollout(_)) => "unknown_rollout",
            Self::Journal(JournalError::UnknownIncident(_)) => "unknown_incident",
            Self::Journal(JournalError::Over(_)) => "rollout_over",
            Self::Unjournaled(_) | Self::Journal(JournalError::Unusable { .. }) => "journal",
            Self::Upgrade(error) => error.code(),
            Self::Host(_) | Self::System { .. } => "host",
        }
    }

    /// The exit code: see `docs/user/cli.md`.
    pub fn exit(&self) -> u8 {
        match self {
            Self::Launch(error) if error.is_of_the_host() => 7,
            Self::NeverReady {
                now: Now::Nobody(_),
                ..
            }
            | Self::BakeFailed {
                now: Now::Nobody(_),
                ..
            } => 9,
            Self::NeverReady { .. }
            | Self::Launch(_)
            | Self::HookFailed { .. }
            | Self::BakeFailed { .. }
            | Self::CalledOff { .. } => 1,
            Self::Name(_) | Self::WhichService(_) | Self::NoDatagrams(_) => 2,
            Self::UnknownService { .. }
            | Self::UnknownGeneration { .. }
            | Self::Journal(JournalError::UnknownRollout(_) | JournalError::UnknownIncident(_)) => {
                5
            }
            Self::NameTaken { .. }
            | Self::NotAgain { .. }
            | Self::Busy(_)
            | Self::Unpromotable { .. }
            | Self::NoWayBack { .. }
            | Self::NotReady { .. }
            | Self::ActiveStop(_)
            | Self::GoingDown
            | Self::RolloutRuns { .. }
            | Self::AwaitsAdopt(_)
            | Self::StartedElsewhere { .. }
            | Self::NothingBefore(_)
            | Self::Journal(JournalError::Over(_)) => 6,
            Self::Profile { exit, .. } => *exit,
            Self::Adopt(error) => error.exit(),
            Self::Upgrade(error) => error.exit(),
            Self::Broke { .. }
            | Self::Host(_)
            | Self::Journal(JournalError::Unusable { .. })
            | Self::Unjournaled(_)
            | Self::System { .. } => 7,
        }
    }
}

fn there_are(known: &[String]) -> String {
    match known {
        [] => "is none".to_owned(),
        [one] => format!("is {one}"),
        several => format!("are {}", several.join(", ")),
    }
}

fn quoted(lines: &[String]) -> String {
    if lines.is_empty() {
        return "\n  (it wrote nothing)".to_owned();
    }
    format!("\n  | {}", lines.join("\n  | "))
}
