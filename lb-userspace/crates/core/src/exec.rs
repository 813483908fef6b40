//! What a process is told that becomes a server by itself (`hotlb exec`).

use std::{collections::BTreeMap, path::PathBuf};

use hotlb_sys::listener::GroupKey;
use serde::{Deserialize, Serialize};

/// What a process has to do to become a generation.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "ExecAnswer")
)]
pub struct ExecSpec {
    /// The generation's name.
    pub generation: String,
    /// The directory of the cgroup to enter.
    pub cgroup: PathBuf,
    /// Variables to add to the environment.
    pub env: BTreeMap<String, String>,
    /// The user id to run as.
    pub uid: u32,
    /// The group id to run as.
    pub gid: u32,
    /// The user's name, for the supplementary groups; `null` if the configuration gives the user as
    /// a number.
    pub user: Option<String>,
    /// Listeners to open in the cgroup and to pass on as `LISTEN_FDS`, each with its name.
    pub inherit: Vec<(String, GroupKey)>,
    /// The file of the network namespace to enter; `null`: the process is in the right one.
    #[serde(default)]
    pub netns: Option<PathBuf>,
}
