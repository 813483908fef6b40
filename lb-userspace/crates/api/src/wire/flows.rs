//! The UDP side of a service, and GET `/v1/services/{service}/flows`.

use std::{collections::BTreeMap, net::SocketAddr};

use hotlb_core::config::FlowMode;
use serde::{Deserialize, Serialize};

/// The UDP side of a service.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DatagramStatus {
    /// The service's UDP addresses.
    pub listen: Vec<SocketAddr>,
    /// What keeps a client with its generation.
    pub flow: FlowMode,
    /// A flow ends after this long without a datagram.
    pub idle_ms: u64,
    /// How many flows the table can hold.
    pub table: u32,
    /// The flows in the table.
    pub flows: u64,
    /// How often `steer_udp` ran: once a train of datagrams where the kernel joins them (GRO).
    pub calls: u64,
    /// Calls, by exit; their sum is `calls`.
    pub exits: BTreeMap<String, u64>,
    /// Flows that began.
    pub begun: u64,
    /// Flows that went to another generation before they were idle.
    pub moved: u64,
    /// QUIC connections that continued under another address.
    #[serde(default)]
    pub readdressed: u64,
    /// Flows that made room for others: the table is too small.
    pub evicted: u64,
    /// Flows that the table could not take.
    pub unwritten: u64,
}

/// A service's flows: the answer to `GET /v1/services/{service}/flows`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FlowList {
    /// The version of the API.
    pub api: u32,
    /// The service's name.
    pub service: String,
    /// How many flows the service has; `flows` may have fewer, as `limit` says.
    pub total: u64,
    /// The flows, those with the latest datagrams first.
    pub flows: Vec<FlowStatus>,
}

/// One flow.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FlowStatus {
    /// The client's address.
    pub client: SocketAddr,
    /// The address it sends to.
    pub server: SocketAddr,
    /// The generation that gets its datagrams.
    pub generation: String,
    /// How long ago the flow began, or moved to this generation.
    pub age_ms: u64,
    /// How long ago its last datagram came, to within an eighth of the idle time or a second.
    pub idle_ms: u64,
}
