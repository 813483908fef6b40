//! What a verb answers while it works: one JSON value a line.

use serde::{Deserialize, Serialize};

/// One line of a verb's answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Line {
    /// What is being done.
    Progress(Progress),
    /// It is true now. The last line.
    Done(Done),
    /// It failed. The last line.
    Error(Failure),
}

/// What is being done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// In words.
    pub step: String,
    /// Connections left, where that is what is waited for.
    pub remaining: Option<u64>,
}

/// What a verb brought about.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Done {
    /// In words.
    pub message: String,
    /// The generation it is about.
    pub generation: Option<String>,
    /// The generation that was active before.
    pub former: Option<String>,
    /// From the request to the store of the word, in microseconds.
    pub steered_us: Option<u64>,
    /// Connections of the former one that were cut at the deadline.
    pub cut: Option<u64>,
    /// The rollout, as `hotlb history show` knows it.
    #[serde(default)]
    pub rollout: Option<String>,
    /// What may not be as it was meant, although it was done.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// Why a verb failed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// For programs.
    pub code: String,
    /// For people: what happened, what it means, what to do.
    pub message: String,
    /// The exit code of the command line.
    pub exit: u8,
}
