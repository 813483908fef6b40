//! Why there is no profile.

use std::{io, path::PathBuf};

use hotlb_datapath::DatapathError;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why there is no profile. It crosses from the helper to the agent as text.
#[derive(Debug, Error)]
pub enum ProfileError {
    /// The kernel does not let the agent sample.
    #[error("the kernel does not let the agent sample: {0}")]
    Refused(String),
    /// The kernel does not show where threads wait.
    #[error(
        "waits cannot be profiled on this host: {0}. They need Linux 5.18 or later with \
         CONFIG_DEBUG_INFO_BTF, and CAP_BPF; a profile of CPU time (without --off-cpu) needs \
         neither"
    )]
    NoWaits(DatapathError),
    /// The generation has no process.
    #[error(
        "{0} has no process: nothing can be sampled; `hotlb status` shows which generations run"
    )]
    NoProcess(String),
    /// The generation's cgroup.
    #[error("cannot use the cgroup {path} of the generation: {source}")]
    Cgroup {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The samples cannot be read.
    #[error("sampling failed: {0}")]
    System(#[from] io::Error),
    /// What the kernel counted cannot be read.
    #[error("sampling failed: {0}")]
    Counts(DatapathError),
    /// The plan is not understood.
    #[error("the sampling helper does not understand its plan: {0}")]
    Plan(#[from] serde_json::Error),
    /// Whoever asked has gone.
    #[error("the client that requested the profile disconnected")]
    Abandoned,
}

/// What a helper says when it has no profile.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failed {
    /// For people.
    pub message: String,
    /// The exit code of the command line.
    pub exit: u8,
}

impl From<&ProfileError> for Failed {
    fn from(error: &ProfileError) -> Self {
        let exit = match error {
            ProfileError::NoProcess(_) => 6,
            ProfileError::Refused(_) | ProfileError::NoWaits(_) | ProfileError::Cgroup { .. } => 7,
            ProfileError::System(_)
            | ProfileError::Counts(_)
            | ProfileError::Plan(_)
            | ProfileError::Abandoned => 1,
        };
        Self {
            message: error.to_string(),
            exit,
        }
    }
}
