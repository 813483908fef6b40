//! What a process is told that becomes a server by itself (`hotlb exec`).

use std::{collections::BTreeMap, path::PathBuf};

use hotlb_sys::listener::GroupKey;
use serde::{Deserialize, Serialize};

/// What the agent says to a process that is to become a server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExecSpec {
    /// The generation it will be.
    pub generation: String,
    /// The cgroup it is to enter.
    pub cgroup: PathBuf,
    /// Added to its environment.
    pub env: BTreeMap<String, String>,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// The user's name, for the supplementary groups.
    pub user: Option<String>,
    /// Listeners to open and pass on as `LISTEN_FDS`, each with its name.
    pub inherit: Vec<(String, GroupKey)>,
    /// The network namespace it is to enter; `None`: it is in the right one.
    #[serde(default)]
    pub netns: Option<PathBuf>,
}
