//! What a verb answers while it works: one JSON value a line.

use serde::{Deserialize, Serialize};

/// One line of a verb's response.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Line {
    /// What the verb is doing.
    Progress(Progress),
    /// The verb succeeded. The last line.
    Done(Done),
    /// The verb failed. The last line.
    Error(Failure),
}

/// What a verb is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Progress {
    /// What it is doing, in words.
    pub step: String,
    /// Connections that are left; `null` unless the verb waits for them.
    pub remaining: Option<u64>,
}

/// What a verb did.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Done {
    /// The line that the command line prints.
    pub message: String,
    /// The generation that the verb acted on.
    pub generation: Option<String>,
    /// The generation that was active before; `null` if there was none.
    pub former: Option<String>,
    /// Microseconds from when the agent received the request to the store of the steering word, checks included.
    pub steered_us: Option<u64>,
    /// Connections of the former generation that were cut at the deadline; `null` if the deadline was not reached.
    pub cut: Option<u64>,
    /// The rollout's id for `GET /v1/history/{id}`; `null` for deploy, stop and down, with `no_wait`, and if the
    /// rollout is not in the journal.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::RolloutId>"))]
    pub rollout: Option<String>,
    /// What may not be as intended, although the verb succeeded.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// Why a verb failed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Failure {
    /// The kind of the failure, for programs.
    pub code: String,
    /// What happened, what it means and what to do, for people.
    pub message: String,
    /// The exit code of the command line.
    pub exit: u8,
}
