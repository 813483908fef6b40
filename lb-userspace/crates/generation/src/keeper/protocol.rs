//! What agent and keeper say to each other: one JSON request and one JSON reply a connection.

use serde::{Deserialize, Serialize};

use crate::sys::listener::GroupKey;

/// The version of what follows. Keepers outlive their agents: it grows when an agent would not
/// be understood by a keeper that an earlier one started.
pub const PROTOCOL: u32 = 1;

/// What the agent asks.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Open a parking listener.
    Open(GroupKey),
    /// Close the one with this cookie: what waits in it moves on.
    Close(u64),
    /// Take these over from the process `pid`, whose own socket is gone. Asked of a keeper that
    /// was just started.
    Take {
        /// Who has them.
        pid: u32,
        /// What it has, by its numbers.
        parked: Vec<Parked>,
    },
    /// List what is held.
    List,
    /// Close everything and end.
    Quit,
}

/// What the keeper answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// What was opened, or all there is.
    Parked(Vec<Parked>),
    /// The request failed: an errno and its text.
    Failed(Option<i32>, String),
}

/// A parking listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// Its group. Keepers outlive agents: in messages it has the name that it had first.
    #[serde(rename = "twin")]
    pub group_key: GroupKey,
    /// The kernel's name for it.
    pub cookie: u64,
    /// Its number in the keeper's table of file descriptors.
    pub fd: i32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keepers_of_earlier_agents_are_understood() {
        let text = r#"{"twin":{"address":"[::]:80","v6only":true,"uid":33},"cookie":7,"fd":3}"#;
        let parked: Parked = serde_json::from_str(text).unwrap();
        assert_eq!(parked.group_key.uid, 33);
        assert_eq!(serde_json::to_string(&parked).unwrap(), text);
    }
}
