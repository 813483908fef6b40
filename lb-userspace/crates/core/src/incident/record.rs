//! What is kept of an anomaly.

use std::{fmt, net::SocketAddr, str::FromStr};

use hotlb_values::profile::Profile;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Window;

/// Names an incident for good. Written as "i42"; "42" is read too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct IncidentId(pub i64);

/// What was given is no [`IncidentId`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "invalid incident id \"{}\" (expected i1, i2, …; see `hotlb incidents`)",
    .0.escape_debug()
)]
pub struct NoIncidentId(String);

impl fmt::Display for IncidentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "i{}", self.0)
    }
}

impl FromStr for IncidentId {
    type Err = NoIncidentId;

    fn from_str(text: &str) -> Result<Self, NoIncidentId> {
        let digits = text.strip_prefix('i').unwrap_or(text);
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        match digits.parse() {
            Ok(id) if plain => Ok(Self(id)),
            _ => Err(NoIncidentId(text.to_owned())),
        }
    }
}

impl From<IncidentId> for String {
    fn from(id: IncidentId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for IncidentId {
    type Error = NoIncidentId;

    fn try_from(text: String) -> Result<Self, NoIncidentId> {
        text.parse()
    }
}

/// An incident in short.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Its id.
    pub id: IncidentId,
    /// The service.
    pub service: String,
    /// The generation.
    pub generation: String,
    /// When the window ended that was unusual, in milliseconds since 1970.
    pub at_ms: i64,
    /// How unusual it was, from 0 to 1.
    pub score: f64,
    /// In what, in words.
    pub reason: String,
    /// The rollout it fell into.
    pub rollout: Option<String>,
    /// What it takes in the database.
    pub bytes: u64,
}

/// An incident.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Incident {
    /// In short.
    #[serde(flatten)]
    pub summary: Summary,
    /// The generation that served beside it.
    pub beside: Option<String>,
    /// The generation's windows before it, the unusual one, and those while it was looked at.
    pub windows: Vec<Window>,
    /// Those of the generation beside it.
    pub beside_windows: Vec<Window>,
    /// How long it was looked at.
    pub took_ms: u64,
    /// The generation's slowest connections meanwhile, slowest first.
    pub connections: Vec<SlowConnection>,
    /// Where the generation spent CPU time meanwhile; with one beside it, that one comes first.
    pub profile: Option<Profile>,
    /// What is less than it could be, and why.
    pub notes: Vec<String>,
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// To be accepted.
    Queued,
    /// For the server to read what came.
    Unread,
    /// For the first byte of an answer.
    Unanswered,
    /// For the client to take what was sent.
    Sending,
}

impl Phase {
    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Unread => "unread",
            Self::Unanswered => "unanswered",
            Self::Sending => "sending",
        }
    }
}

/// A connection that waited. Times are in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlowConnection {
    /// The client.
    pub client: SocketAddr,
    /// What it waited for when it was seen longest.
    pub phase: Phase,
    /// For how long by then.
    pub waited_us: u64,
    /// Since the handshake; `null` where it is older than what is known.
    pub age_us: Option<u64>,
    /// Bytes the client has sent.
    pub received: u64,
    /// Bytes it was sent.
    pub sent: u64,
    /// The smoothed round trip.
    pub round_trip_us: u32,
    /// Segments that were sent again.
    pub retransmitted: u32,
}
