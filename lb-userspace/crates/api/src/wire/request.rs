//! What the verbs ask for.

use std::{collections::BTreeMap, path::PathBuf};

use hotlb_core::config::Hook;
use serde::{Deserialize, Serialize};

use super::{Measure, Unwind};

/// What a new generation may be called (`hotlb_core::config::check_name`).
#[cfg(feature = "schema")]
const NAME: &str = "^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$";

/// Start a generation: the body of `POST /v1/services/{service}/deploy`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DeployRequest {
    /// The new generation's name; `null`: the agent gives it one.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = NAME)))]
    pub generation: Option<String>,
    /// Program and arguments.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub command: Vec<String>,
    /// The directory in which the program starts; relative paths are relative to it.
    pub cwd: PathBuf,
    /// Variables that are added to the agent's own environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// How long the generation may take to become ready; `null`: as long as the service's configuration says.
    pub timeout_ms: Option<u64>,
}

/// End a generation: the body of `POST /v1/services/{service}/stop`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct StopRequest {
    /// The generation's name.
    pub generation: String,
    /// Also end the active generation: clients wait then.
    #[serde(default)]
    pub park: bool,
}

/// How a rollout goes, where it differs from the configuration.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RolloutOptions {
    /// How long the bake lasts, in milliseconds; `null`: as configured.
    pub bake_ms: Option<u64>,
    /// How long the former generation is kept, in milliseconds; `null`: as configured.
    pub keep_ms: Option<u64>,
    /// Hooks in addition to the configured ones. Only for root.
    #[serde(default)]
    pub hooks: Vec<Hook>,
    /// Respond when the generation is active instead of when the rollout is over.
    #[serde(default)]
    pub no_wait: bool,
}

/// Make a generation active: the body of `POST /v1/services/{service}/promote`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PromoteRequest {
    /// The generation's name.
    pub generation: String,
    /// How the rollout differs from the configuration.
    #[serde(default)]
    pub options: RolloutOptions,
}

/// Start a generation and make it active: the body of `POST /v1/services/{service}/upgrade`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct UpgradeRequest {
    /// The generation to start.
    pub deploy: DeployRequest,
    /// How the rollout differs from the configuration.
    #[serde(default)]
    pub options: RolloutOptions,
    /// End a generation that has to end first although it could not be started again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "schema", schemars(extend("default" = false)))]
    pub anyway: bool,
}

/// Return to another generation: the body of `POST /v1/services/{service}/rollback`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// The generation to return to; `null`: the one that was active before the last promote.
    #[serde(default)]
    pub to: Option<String>,
    /// Start it again although its program is another file by now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "schema", schemars(extend("default" = false)))]
    pub anyway: bool,
    /// Respond when the generation is active instead of when the other one has drained.
    #[serde(default)]
    pub no_wait: bool,
}

/// Make the process that asks, which is root's, a generation: the body of `POST /v1/services/{service}/exec`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ExecRequest {
    /// The new generation's name; `null`: the agent gives it one.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = NAME)))]
    pub generation: Option<String>,
    /// Program and arguments, for the records.
    pub command: Vec<String>,
    /// Whether the process's supervisor waits for its READY=1.
    #[serde(default)]
    pub has_notify_socket: bool,
}

/// The answer to an [`ExecRequest`].
pub type ExecAnswer = hotlb_core::exec::ExecSpec;

/// Make a running server a generation: the body of `POST /v1/services/{service}/adopt`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AdoptRequest {
    /// The new generation's name; `null`: the agent gives it one.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = NAME)))]
    pub generation: Option<String>,
    /// The server's first process; `null` if `unit` names the server.
    pub pid: Option<u32>,
    /// The server's systemd service; `null` if `pid` names the server.
    pub unit: Option<String>,
    /// Program and arguments that start the server again, if its own command line does not; may be empty.
    #[serde(default)]
    pub command: Vec<String>,
    /// The directory in which the command starts.
    pub cwd: PathBuf,
}

/// Sample generations: the body of `POST /v1/services/{service}/profile`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ProfileRequest {
    /// One generation, or two that are sampled at the same moment.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 2)))]
    pub generations: Vec<String>,
    /// How long to sample, in milliseconds: a second to five minutes.
    #[cfg_attr(feature = "schema", schemars(range(min = 1_000, max = 300_000)))]
    pub duration_ms: u64,
    /// What to count: time on a CPU, or off the CPUs (of one generation).
    #[serde(default)]
    pub measure: Measure,
    /// Samples per second of CPU time, or of each thread's waiting.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 999)))]
    pub frequency: u32,
    /// How to find callers.
    #[serde(default)]
    pub unwind: Unwind,
    /// Instead of sampling, respond with what is kept of the last `last_ms` milliseconds.
    #[serde(default)]
    pub last_ms: Option<u64>,
    /// Also sample on a kernel that is known to have stopped hosts by it.
    #[serde(default)]
    pub force: bool,
}

/// Replace the agent: the body of `POST /v1/agent/upgrade`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AgentUpgradeRequest {
    /// The absolute path of the program that takes over; `null`: the one at the path by which the agent was started.
    /// Only for root.
    pub binary: Option<PathBuf>,
    /// The path of the successor's configuration; `null`: that of the agent. Only for root.
    #[serde(default)]
    pub config: Option<PathBuf>,
}
