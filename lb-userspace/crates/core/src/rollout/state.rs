//! The states of a generation.

use serde::{Deserialize, Serialize};

/// The state of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum GenerationState {
    /// It is started, and has not shown yet that it serves.
    Starting,
    /// It has answered a probe; it gets no clients.
    Ready,
    /// It gets the new connections.
    Active,
    /// It gets no new connections, and its connections may end by themselves.
    Draining,
    /// It has no connections left and still runs, for a rollback by one store.
    Standby,
    /// hotlb has signalled it to end.
    Stopping,
    /// It ended as it should; hotlb remembers its command.
    Stopped,
    /// It ended by itself, or never served.
    Failed,
}

impl GenerationState {
    /// All states.
    pub const ALL: [Self; 8] = [
        Self::Starting,
        Self::Ready,
        Self::Active,
        Self::Draining,
        Self::Standby,
        Self::Stopping,
        Self::Stopped,
        Self::Failed,
    ];

    /// The name in `status` and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Standby => "standby",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }

    /// Whether it can take new connections, should it have to.
    pub const fn can_serve(self) -> bool {
        matches!(
            self,
            Self::Ready | Self::Active | Self::Draining | Self::Standby
        )
    }

    /// Whether its processes are meant to run.
    pub const fn is_live(self) -> bool {
        !matches!(self, Self::Stopped | Self::Failed)
    }
}
