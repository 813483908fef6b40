//! What becomes of a generation that is not active any more.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

/// How a generation is drained. All times count from the beginning of the drain: when the bake is
/// over, or from `hotlb stop`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainPolicy {
    /// What tells the server to finish; `None`: what its kind understands
    /// ([`crate::rollout::recipe`]).
    pub signal: Option<Signal>,
    /// How long its connections may end by themselves before the signal, where the operator says
    /// so; [`DrainPolicy::signal_after`].
    pub signal_after: Option<Duration>,
    /// When what is left is ended.
    pub deadline: Duration,
    /// How long a data store may take to save what it has and end, from its signal.
    pub stop_deadline: Duration,
    /// How long a server may leave clients in its accept queue before they are moved to the
    /// active generation.
    pub hung_after: Duration,
    /// Connections that may stay longer than the others.
    pub long_lived: Option<LongLived>,
    /// How what is left at the deadline is ended.
    pub leftovers: Leftovers,
    /// Whether HTTP/1.1 clients are asked to leave first.
    pub polite: PoliteMode,
}

/// Whether the clients of a draining generation are asked to leave after their current response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum PoliteMode {
    /// Where the kernel can do it. What is not an HTTP/1.1 response in plain text is not touched,
    /// so that there is no protocol to declare.
    #[default]
    Auto,
    /// The same, but a kernel that cannot do it is an error.
    On,
    /// Never: no byte of the server's is changed.
    Off,
}

/// Connections that are old when the deadline comes: `WebSockets`, event streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongLived {
    /// From which age on a connection is one.
    pub after: Duration,
    /// When they are ended.
    pub deadline: Duration,
}

/// What happens to connections that are left at the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Leftovers {
    /// Nothing: the generation runs on until they have ended.
    Keep,
    /// Both sides see the end of the stream; then the processes are killed.
    #[default]
    Close,
    /// Both sides see a reset (`SOCK_DESTROY`); then the processes are killed.
    Destroy,
}

impl Default for DrainPolicy {
    fn default() -> Self {
        Self {
            signal: None,
            signal_after: None,
            deadline: Duration::from_secs(30),
            stop_deadline: Duration::from_mins(10),
            hung_after: Duration::from_secs(1),
            long_lived: None,
            leftovers: Leftovers::default(),
            polite: PoliteMode::default(),
        }
    }
}

impl DrainPolicy {
    /// How long connections may end by themselves before a signal that lets them finish.
    pub fn signal_after(&self) -> Duration {
        self.signal_after.unwrap_or(Duration::from_secs(2))
    }
}

/// What is kept for rollbacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepPolicy {
    /// How many drained generations stay up; zero for none.
    pub generations: usize,
    /// How long they do; zero for not at all.
    pub time: Duration,
    /// Whether they are frozen meanwhile: they use no CPU and what they hold in memory may be
    /// swapped out, but only the agent can thaw them.
    pub freeze: bool,
}

impl Default for KeepPolicy {
    fn default() -> Self {
        Self {
            generations: 1,
            time: Duration::from_mins(10),
            freeze: false,
        }
    }
}

impl KeepPolicy {
    /// Whether anything is kept.
    pub fn keeps(&self) -> bool {
        self.generations > 0 && !self.time.is_zero()
    }
}
