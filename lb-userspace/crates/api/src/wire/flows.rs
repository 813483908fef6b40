//! The UDP side of a service, and GET `/v1/services/{service}/flows`.

use std::{collections::BTreeMap, net::SocketAddr};

use hotlb_core::config::FlowMode;
use serde::{Deserialize, Serialize};

/// The UDP side of a service.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DatagramStatus {
    /// Its addresses.
    pub listen: Vec<SocketAddr>,
    /// What keeps a client with its generation.
    pub flow: FlowMode,
    /// After how long without a datagram a flow is none any more.
    pub idle_ms: u64,
    /// Room for so many flows.
    pub table: u32,
    /// Flows there are.
    pub flows: u64,
    /// How often `steer_udp` ran: once a train of datagrams where the kernel joins them (GRO).
    pub calls: u64,
    /// How it ended; all of them together are `calls`.
    pub exits: BTreeMap<String, u64>,
    /// Flows that began.
    pub begun: u64,
    /// Flows that went to another generation before they were idle.
    pub moved: u64,
    /// Connections of QUIC that went on under another address.
    #[serde(default)]
    pub readdressed: u64,
    /// Flows that gave way to others: the table is too small.
    pub evicted: u64,
    /// Flows that could not be written down.
    pub unwritten: u64,
}

/// A service's flows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FlowList {
    /// [`super::VERSION`].
    pub api: u32,
    /// The service.
    pub service: String,
    /// How many there are; `flows` has fewer when more were there than were asked for.
    pub total: u64,
    /// The flows, the ones with the latest datagram first.
    pub flows: Vec<FlowStatus>,
}

/// One flow.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FlowStatus {
    /// The client.
    pub client: SocketAddr,
    /// Where it sends to.
    pub server: SocketAddr,
    /// The generation it is with.
    pub generation: String,
    /// How long ago it began, or went to this generation.
    pub age_ms: u64,
    /// How long ago its last datagram came, to an eighth of the idle time or a second.
    pub idle_ms: u64,
}
