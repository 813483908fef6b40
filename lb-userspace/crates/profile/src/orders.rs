//! What the agent and its helper say to each other, a line of JSON each.

use serde::{Deserialize, Serialize};

use super::{Plan, Target, helper::Answer};

/// The first line: what the helper is for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// One profile; its [`Answer`] is all it says.
    Once(Plan),
    /// Profiles of whatever runs, kept until they are asked for.
    Always(Standing),
}

/// Sampling that goes on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Standing {
    /// The service.
    pub service: String,
    /// Samples per second of CPU time.
    pub frequency: u32,
    /// How long a sample is kept.
    pub keep_ms: u64,
}

/// The lines behind [`Task::Always`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Command {
    /// Sample this one too, until it ends.
    Begin(Target),
    /// Give what is kept.
    Give(Wanted),
}

/// What is wanted of what is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Wanted {
    /// A number of its own, which the answer has.
    pub id: u64,
    /// The generations.
    pub generations: Vec<String>,
    /// From so long ago until now.
    pub last_ms: u64,
}

/// What the helper says then.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Said {
    /// What it has used so far.
    Cost(Cost),
    /// What was wanted.
    Kept(u64, Answer),
    /// It samples no more, for this reason; what is kept can still be had.
    Stopped(String),
}

/// What sampling cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// CPU time since the helper began, but for finding names, in milliseconds.
    pub cpu_ms: u64,
    /// Resident memory in bytes, with the pages of mapped programs.
    pub memory_bytes: u64,
    /// Samples since the helper began.
    pub samples: u64,
}
