//! The states of a generation.

use serde::{Deserialize, Serialize};

/// Where a generation stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GenerationState {
    /// Started; not yet known to serve.
    Starting,
    /// Serves, and has answered a probe; gets no client.
    Ready,
    /// Gets the new connections.
    Active,
    /// Gets no new connection; its connections may end by themselves.
    Draining,
    /// Has no connection left and runs on, for a rollback by one store.
    Standby,
    /// Was told to end.
    Stopping,
    /// Ended as it should; its command is remembered.
    Stopped,
    /// Ended by itself, or never served.
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
