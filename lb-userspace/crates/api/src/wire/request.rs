//! What the verbs ask for.

use std::{collections::BTreeMap, path::PathBuf};

use hotlb_core::config::Hook;
use serde::{Deserialize, Serialize};

#[cfg(doc)]
use super::Profile;
use super::{Measure, Unwind};

/// POST `/v1/services/{service}/deploy`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeployRequest {
    /// The name; `null` to have one given.
    pub generation: Option<String>,
    /// Program and arguments.
    pub command: Vec<String>,
    /// The directory it starts in; relative paths are meant from there.
    pub cwd: PathBuf,
    /// Added to the agent's own environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// How long it may take to become ready; `null` for the service's own.
    pub timeout_ms: Option<u64>,
}

/// POST `/v1/services/{service}/stop`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopRequest {
    /// Its name.
    pub generation: String,
    /// Whether the active one may be stopped: clients wait then.
    #[serde(default)]
    pub park: bool,
}

/// How a rollout goes, where it differs from the configuration.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutOptions {
    /// How long the candidate is on probation.
    pub bake_ms: Option<u64>,
    /// How long the former generation is kept.
    pub keep_ms: Option<u64>,
    /// Hooks beside those of the configuration.
    #[serde(default)]
    pub hooks: Vec<Hook>,
    /// Whether the answer comes when the word has moved, instead of at the end.
    #[serde(default)]
    pub no_wait: bool,
}

/// POST `/v1/services/{service}/promote`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromoteRequest {
    /// Its name.
    pub generation: String,
    /// How.
    #[serde(default)]
    pub options: RolloutOptions,
}

/// POST `/v1/services/{service}/upgrade`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpgradeRequest {
    /// What is started.
    pub deploy: DeployRequest,
    /// How it is promoted.
    #[serde(default)]
    pub options: RolloutOptions,
    /// Whether a generation that has to end first is ended although it could not be started again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anyway: bool,
}

/// POST `/v1/services/{service}/rollback`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// Where to; `null`: to whom was active before the last promote.
    #[serde(default)]
    pub to: Option<String>,
    /// Whether it is started again although its program is another file by now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anyway: bool,
    /// Whether the answer comes when the word has moved, instead of when the other one is drained.
    #[serde(default)]
    pub no_wait: bool,
}

/// POST `/v1/services/{service}/exec`, by root: the process that asks becomes the generation.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecRequest {
    /// The name; `null` to have one given.
    pub generation: Option<String>,
    /// Program and arguments, for the records.
    pub command: Vec<String>,
    /// Whether its supervisor waits for its READY=1.
    #[serde(default)]
    pub has_notify_socket: bool,
}

/// The answer to an [`ExecRequest`].
pub type ExecAnswer = hotlb_core::exec::ExecSpec;

/// POST `/v1/services/{service}/adopt`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdoptRequest {
    /// The name; `null` to have one given.
    pub generation: Option<String>,
    /// The server's first process; or
    pub pid: Option<u32>,
    /// its systemd service.
    pub unit: Option<String>,
    /// What starts it again, if its own command line does not say; may be empty.
    #[serde(default)]
    pub command: Vec<String>,
    /// The directory the command is started in.
    pub cwd: PathBuf,
}

/// POST `/v1/services/{service}/profile`, by root; answered with a [`Profile`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileRequest {
    /// The generation, or two that are sampled at the same moment.
    pub generations: Vec<String>,
    /// How long, in milliseconds: a second to five minutes.
    pub duration_ms: u64,
    /// What is counted; where threads wait only of one generation.
    #[serde(default)]
    pub measure: Measure,
    /// Samples per second of CPU time or of each thread's waiting, 1 to 999.
    pub frequency: u32,
    /// How callers are found.
    #[serde(default)]
    pub unwind: Unwind,
    /// Instead of sampling: what is kept of the last so many milliseconds.
    #[serde(default)]
    pub last_ms: Option<u64>,
    /// Whether to sample on a kernel that is known to have stopped hosts by it.
    #[serde(default)]
    pub force: bool,
}

/// POST `/v1/agent/upgrade`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentUpgradeRequest {
    /// The whole path of the program that takes over; `null` for the one at the path the agent
    /// was started by. Only for root.
    pub binary: Option<PathBuf>,
    /// The configuration of the successor; `null` for the one the agent has. Only for root.
    #[serde(default)]
    pub config: Option<PathBuf>,
}
