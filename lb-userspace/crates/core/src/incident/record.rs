//! What is kept of an anomaly.

use std::{fmt, net::SocketAddr, str::FromStr};

use hotlb_values::profile::Profile;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Window;

/// An incident's id, for example "i42". Where an id is read, "42" is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(extend("pattern" = "^i[0-9]+$")))]
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
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "IncidentSummary")
)]
pub struct Summary {
    /// The incident's id.
    pub id: IncidentId,
    /// The service's name.
    pub service: String,
    /// The generation's name.
    pub generation: String,
    /// When the unusual window ended, in milliseconds since 1970.
    pub at_ms: i64,
    /// How unusual it was, from 0 to 1.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 1)))]
    pub score: f64,
    /// What was unusual, in words.
    pub reason: String,
    /// The rollout in which it happened; `null` if there was none.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<crate::history::RolloutId>")
    )]
    pub rollout: Option<String>,
    /// The bytes that it takes in the database.
    pub bytes: u64,
}

/// An incident with everything that was kept of it: the answer to `GET /v1/incidents/{id}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Incident {
    /// In short.
    #[serde(flatten)]
    pub summary: Summary,
    /// The generation that served beside it; `null` if there was none.
    pub beside: Option<String>,
    /// The generation's windows before it, the unusual one, and those while the agent examined it.
    pub windows: Vec<Window>,
    /// The windows of the generation beside it.
    pub beside_windows: Vec<Window>,
    /// How long the agent examined it.
    pub took_ms: u64,
    /// The generation's slowest connections meanwhile, slowest first.
    pub connections: Vec<SlowConnection>,
    /// Where the generation spent CPU time meanwhile; if one served beside it, that one comes first. `null` if there
    /// is no profile.
    pub profile: Option<Profile>,
    /// What is less than it could be, and why.
    pub notes: Vec<String>,
}

/// What a connection waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "WaitPhase")
)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It waited to be accepted.
    Queued,
    /// It waited for the server to read what the client had sent.
    Unread,
    /// It waited for the first byte of a response.
    Unanswered,
    /// It waited for the client to take what the server had sent.
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SlowConnection {
    /// The client's address.
    pub client: SocketAddr,
    /// What it waited for when its wait was longest.
    pub phase: Phase,
    /// How long it had waited by then.
    pub waited_us: u64,
    /// The time since the handshake; `null` where the connection is older than what the agent knows.
    pub age_us: Option<u64>,
    /// Bytes that the client had sent.
    pub received: u64,
    /// Bytes that were sent to the client.
    pub sent: u64,
    /// The smoothed round-trip time.
    pub round_trip_us: u32,
    /// Segments that were sent again.
    pub retransmitted: u32,
}
