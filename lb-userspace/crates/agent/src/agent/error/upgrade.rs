//! Why an upgrade of the agent did not come about. The one that was in charge is so still.

use std::{io, path::PathBuf};

use thiserror::Error;

/// An upgrade that was refused or failed.
#[derive(Debug, Error)]
pub enum UpgradeError {
    /// `hotlb run`.
    #[error(
        "this agent belongs to `hotlb run` and ends with its terminal; end it and run `hotlb agent`, \
         which can be upgraded"
    )]
    Tied,
    /// PID 1.
    #[error(
        "this agent is process 1 of its container, and everything in it would end with it; upgrade \
         by replacing the container"
    )]
    Init,
    /// Something is under way that a successor cannot go on with.
    #[error("{0} is under way; upgrade again when it is done")]
    Busy(String),
    /// Another upgrade runs.
    #[error("the agent is being upgraded; ask again in a moment")]
    Upgrading,
    /// The program cannot be started.
    #[error("cannot start {path}: {source}; {NOTHING}")]
    NotStarted {
        /// The program.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It was started and did not do what an agent does.
    #[error(
        "{path} did not take over: {what}; is it hotlb, in a version that can take over? {NOTHING}"
    )]
    NotAnAgent {
        /// The program.
        path: PathBuf,
        /// What happened.
        what: String,
    },
    /// It understands none of what there is.
    #[error(
        "{path} (hotlb {version}) cannot take over: the version of {what} is {found} here (hotlb \
         {own}), but it takes over version {takes}; {NOTHING}"
    )]
    Layout {
        /// The program.
        path: PathBuf,
        /// Its version.
        version: String,
        /// The version of the agent in charge.
        own: &'static str,
        /// Of what.
        what: &'static str,
        /// The version there is.
        found: u32,
        /// The versions it takes over.
        takes: String,
    },
    /// It checked what it found, and refused.
    #[error("{path} refused to take over: {reason}; {NOTHING}")]
    Refused {
        /// The program.
        path: PathBuf,
        /// Why.
        reason: String,
        /// The exit code.
        exit: u8,
    },
    /// This agent could not let go.
    #[error("the services cannot be handed over: {0}; {NOTHING}")]
    NotHeld(String),
    /// It had everything, and failed.
    #[error(
        "{path} failed to take over: {reason}; the running agent has resumed all services and \
         remains in charge"
    )]
    Failed {
        /// The program.
        path: PathBuf,
        /// What happened.
        reason: String,
        /// The exit code.
        exit: u8,
    },
}

/// What every refusal ends with.
const NOTHING: &str = "nothing was changed; the running agent remains in charge";

impl UpgradeError {
    /// A short name for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Tied | Self::Init => "not_upgradable",
            Self::Busy(_) => "busy",
            Self::Upgrading => "upgrading",
            Self::NotStarted { .. } => "not_started",
            Self::NotAnAgent { .. } | Self::Refused { .. } | Self::Failed { .. } => {
                "not_taken_over"
            }
            Self::Layout { .. } => "layout",
            Self::NotHeld(_) => "host",
        }
    }

    /// The exit code: see `docs/user/cli.md`.
    pub fn exit(&self) -> u8 {
        match self {
            Self::Tied | Self::Init | Self::Busy(_) | Self::Upgrading => 6,
            Self::NotStarted { .. } | Self::NotAnAgent { .. } => 1,
            Self::Layout { .. } => 78,
            Self::Refused { exit, .. } | Self::Failed { exit, .. } => *exit,
            Self::NotHeld(_) => 7,
        }
    }
}
