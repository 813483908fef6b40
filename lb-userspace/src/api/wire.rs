//! The API's values, as JSON. `hotlb status --output json` prints [`Status`] as it is.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{config::HandOver, rollout::GenerationState};

/// The version of the API: both sides must speak the same.
pub const VERSION: u32 = 1;

/// The header that carries it.
pub const VERSION_HEADER: &str = "hotlb-api";

/// Everything an agent knows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// [`VERSION`].
    pub api: u32,
    /// The agent's version.
    pub version: String,
    /// The agent's process.
    pub pid: u32,
    /// What is not as it should be, beside the services' own warnings.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Its services, by name.
    pub services: Vec<ServiceStatus>,
}

/// One service.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// How a generation gets its listeners.
    pub mode: HandOver,
    /// Its addresses.
    pub listen: Vec<SocketAddr>,
    /// Who gets new connections.
    pub active: Option<String>,
    /// Who takes over when the active one has no listener left.
    pub candidate: Option<String>,
    /// Where a rollback leads.
    pub previous: Option<String>,
    /// Grows with each store of the steering word, modulo 2^14.
    pub epoch: u16,
    /// Connections that wait for a generation.
    pub parked: u64,
    /// What is not as it should be.
    pub warnings: Vec<String>,
    /// The reuseport groups.
    pub groups: Vec<GroupStatus>,
    /// How `steer` decided.
    pub steering: SteeringStatus,
    /// Promotes since the service began.
    pub promotes: u64,
    /// Rollbacks since the service began.
    pub rollbacks: u64,
    /// Fail-overs since the service began.
    pub failovers: u64,
    /// The generations, oldest first.
    pub generations: Vec<GenerationStatus>,
}

/// One reuseport group.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GroupStatus {
    /// Its address.
    pub address: SocketAddr,
    /// Whether its sockets are IPv6 only; `null` for IPv4.
    pub v6only: Option<bool>,
    /// The owner of its sockets.
    pub uid: u32,
    /// Connections in the parking listener's queue.
    pub parking_queue: u32,
}

/// How the calls of `steer` ended; all of them together are `calls`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SteeringStatus {
    /// How often it ran.
    pub calls: u64,
    /// For new connections, by exit.
    pub exits: BTreeMap<String, u64>,
    /// For connections whose listener closed, by exit.
    pub migrated: BTreeMap<String, u64>,
}

/// One generation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GenerationStatus {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: u32,
    /// Its state.
    pub state: GenerationState,
    /// Its first process.
    pub pid: Option<u32>,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Why it is in this state.
    pub reason: Option<String>,
    /// Seconds in this state.
    pub for_seconds: u64,
    /// Its connections.
    pub connections: Connections,
    /// Its listeners.
    pub listeners: Vec<ListenerStatus>,
    /// Where its processes' output goes.
    pub output: PathBuf,
}

/// A generation's connections.
pub type Connections = crate::datapath::ConnectionCounts;

/// One listener.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ListenerStatus {
    /// "tcp" or "udp".
    pub protocol: String,
    /// Where.
    pub address: SocketAddr,
    /// Whether it is IPv6 only; `null` for IPv4.
    pub v6only: Option<bool>,
    /// Its owner.
    pub uid: u32,
    /// Connections waiting to be accepted.
    pub queue: u32,
    /// How many may wait.
    pub backlog: u32,
    /// Whether `steer` can choose it.
    pub steered: bool,
}

/// POST `/v1/services/{service}/deploy`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeployRequest {
    /// The name; `null` to have one given.
    pub generation: Option<String>,
    /// Program and arguments.
    pub command: Vec<String>,
    /// The directory it starts in; relative paths are meant from there.
    pub cwd: PathBuf,
    /// Added to the agent's own environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// How long it may take to become ready; `null` for the service's own.
    pub timeout_ms: Option<u64>,
}

/// POST `/v1/services/{service}/stop`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopRequest {
    /// Its name.
    pub generation: String,
    /// Whether the active one may be stopped: clients wait then.
    #[serde(default)]
    pub park: bool,
}

/// POST `/v1/services/{service}/promote`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenerationRequest {
    /// Its name.
    pub generation: String,
}

/// POST `/v1/agent/upgrade`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpgradeRequest {
    /// The whole path of the program that takes over; `null` for the one at the path the agent
    /// was started by. Only for root.
    pub binary: Option<PathBuf>,
    /// The configuration of the successor; `null` for the one the agent has. Only for root.
    #[serde(default)]
    pub config: Option<PathBuf>,
}

/// One line of a verb's answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Line {
    /// What is being done.
    Progress(Progress),
    /// It is true now. The last line.
    Done(Done),
    /// It failed. The last line.
    Error(Failure),
}

/// What is being done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// In words.
    pub step: String,
    /// Connections left, where that is what is waited for.
    pub remaining: Option<u64>,
}

/// What a verb brought about.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Done {
    /// In words.
    pub message: String,
    /// The generation it is about.
    pub generation: Option<String>,
    /// The generation that was active before.
    pub former: Option<String>,
    /// From the request to the store of the word, in microseconds.
    pub steered_us: Option<u64>,
    /// Connections of the former one that were cut at the deadline.
    pub cut: Option<u64>,
}

/// Why a verb failed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// For programs.
    pub code: String,
    /// For people: what happened, what it means, what to do.
    pub message: String,
    /// The exit code of the command line.
    pub exit: u8,
}
