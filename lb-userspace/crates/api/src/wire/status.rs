//! What `GET /v1/status` answers.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use hotlb_core::{
    config::{HandOver, WorkerChoice},
    provenance::Origin,
    rollout::GenerationState,
};
use lb_common::Workers;
use serde::{Deserialize, Serialize};

use super::{DatagramStatus, IncidentSummary, Phase};

/// Everything an agent knows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// [`super::VERSION`].
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
    /// The file of its network namespace; `null` if that is the agent's.
    #[serde(default)]
    pub netns: Option<PathBuf>,
    /// Its TCP addresses.
    pub listen: Vec<SocketAddr>,
    /// Its UDP side; `null` if it has none.
    #[serde(default)]
    pub udp: Option<DatagramStatus>,
    /// Who gets new connections.
    pub active: Option<String>,
    /// Who takes over when the active one has no listener left; `candidate` of an agent that speaks version 1.
    #[serde(alias = "candidate")]
    pub fallback: Option<String>,
    /// Where a rollback leads.
    pub previous: Option<String>,
    /// Why what a rollback would start is not what it was; `null` if it is, or still runs.
    #[serde(default)]
    pub previous_change: Option<String>,
    /// Grows with each store of the steering word, modulo 2^14.
    pub epoch: u16,
    /// Connections that wait for a generation.
    pub parked: u64,
    /// Whether somebody outside has the ports, so that nothing is steered yet.
    #[serde(default)]
    pub awaits_adopt: bool,
    /// What is not as it should be.
    pub warnings: Vec<String>,
    /// The reuseport groups.
    pub groups: Vec<GroupStatus>,
    /// How `steer` decided.
    pub steering: SteeringStatus,
    /// How clients are asked to leave a draining generation.
    #[serde(default)]
    pub polite: PoliteStatus,
    /// Which listener of a generation takes a connection.
    #[serde(default)]
    pub workers: WorkerStatus,
    /// Which object's programs decide; `null` from an agent that does not know.
    #[serde(default)]
    pub programs: Option<ProgramStatus>,
    /// Profiles that are kept; `null` if it is not configured.
    #[serde(default)]
    pub profiles: Option<KeptProfilesStatus>,
    /// Promotes since the service began.
    pub promotes: u64,
    /// Rollbacks since the service began.
    pub rollbacks: u64,
    /// Fail-overs since the service began.
    pub failovers: u64,
    /// The rollout that goes on, up to its drain.
    #[serde(default)]
    pub rollout: Option<RolloutStatus>,
    /// The newest incident, for some minutes.
    #[serde(default)]
    pub incident: Option<IncidentSummary>,
    /// The generations, oldest first.
    pub generations: Vec<GenerationStatus>,
}

/// How clients are asked to leave a draining generation.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PoliteStatus {
    /// By what they are asked; `null`: they are not.
    #[serde(default)]
    pub way: Option<PoliteWay>,
    /// Why they are not, though they should be.
    #[serde(default)]
    pub why_not: Option<String>,
    /// Connections that are being asked now.
    pub leaving: u64,
    /// What was done with the responses that were looked at.
    pub responses: BTreeMap<String, u64>,
}

/// By what clients are asked to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoliteWay {
    /// The messages that the server sends.
    Messages,
    /// The packets, where the server could not read on otherwise.
    Packets,
}

impl PoliteWay {
    /// The name in JSON and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Packets => "packets",
        }
    }
}

/// Which object's programs decide about a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramStatus {
    /// The first 16 digits of its SHA-256, as `lb-ebpf/prebuilt/manifest.toml` has it; `null` if an
    /// agent of layout 5 loaded them, or they are of several objects.
    pub object: Option<String>,
    /// The layout version of the maps.
    pub layout: u64,
    /// Whether they are this agent's.
    pub own: bool,
    /// Why they are not.
    pub reason: Option<String>,
}

/// Sampling that goes on, and what it costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptProfilesStatus {
    /// Samples per second of CPU time.
    pub frequency: u32,
    /// How long a sample is kept, in milliseconds.
    pub keep_ms: u64,
    /// Whether it goes on now.
    pub runs: bool,
    /// Why it does not, or did not a moment ago.
    pub stopped: Option<String>,
    /// CPU time it has used since the agent began, in milliseconds.
    pub cpu_ms: u64,
    /// Memory it has now, in bytes.
    pub memory_bytes: u64,
    /// Samples since the agent began.
    pub samples: u64,
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
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
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
    /// How it came to be.
    #[serde(default)]
    pub origin: Origin,
    /// Seconds in this state.
    pub for_seconds: u64,
    /// Its connections.
    pub connections: Connections,
    /// Flows of UDP clients that are with it; `null` for a service without UDP.
    #[serde(default)]
    pub flows: Option<u64>,
    /// How long its clients waited.
    #[serde(default)]
    pub latency: LatencyStatus,
    /// How fast a rollback to it is.
    pub tier: Option<Tier>,
    /// Whether its processes are frozen.
    #[serde(default)]
    pub frozen: bool,
    /// How far its drain is, while it drains or ends.
    #[serde(default)]
    pub drain: Option<DrainStatus>,
    /// How it is told to end; `null` for one that does not run, or starts.
    #[serde(default)]
    pub ending: Option<EndingStatus>,
    /// Its listeners.
    pub listeners: Vec<ListenerStatus>,
    /// Where its processes' output goes.
    pub output: PathBuf,
}

/// How a rollback to a generation goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Its frozen processes are thawed, and the word is stored.
    Hot,
    /// It runs: the word is stored.
    Warm,
    /// Its command is started again.
    Cold,
}

/// How a generation is told to end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EndingStatus {
    /// Its signal, such as "SIGQUIT".
    pub signal: String,
    /// The processes that get it: those that serve, or their masters. Empty: nobody is known, and
    /// all do.
    pub pids: Vec<u32>,
    /// What these run, as hotlb knows it.
    pub program: String,
    /// What it does to connections: "finishes", "cuts" or "unknown".
    pub effect: String,
    /// Why it is this signal, and how its effect is known.
    pub why: String,
    /// How long after the beginning of its drain it is sent although connections are left; `null`:
    /// not as long as there are any.
    pub after_ms: Option<u64>,
    /// When that is, of one that drains.
    pub in_ms: Option<u64>,
    /// When it was sent, to whole seconds; `told_ms_ago` of an agent that speaks version 1.
    #[serde(alias = "told_ms_ago")]
    pub signalled_ms_ago: Option<u64>,
}

/// How far a drain is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DrainStatus {
    /// What it waits for: "queues", "leaving", "finishing", "`long_lived`" or "saving".
    pub step: String,
    /// Connections when it began.
    pub initially: u64,
    /// Connections left.
    pub left: u64,
    /// How long it has taken.
    pub elapsed_ms: u64,
    /// When what is left is ended.
    pub deadline_in_ms: u64,
    /// When it will be over, judged by how fast connections left so far; `null` before any did.
    pub predicted_ms: Option<u64>,
}

/// The rollout that goes on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RolloutStatus {
    /// Its name, once it has one.
    pub id: Option<String>,
    /// "promote", "upgrade" or "rollback".
    pub kind: String,
    /// Who was active before it.
    pub from: Option<String>,
    /// Who is active after it.
    pub to: Option<String>,
    /// Where it stands.
    pub phase: Phase,
    /// How long the bake goes on.
    pub bake_left_ms: Option<u64>,
}

/// How long a generation's clients waited; see `docs/user/observe/latency.md`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencyStatus {
    /// From the handshake to the first byte that the server reads.
    pub queue_wait: Quantiles,
    /// From the first byte of a request to the first byte of its answer.
    pub service_time: Quantiles,
    /// From the handshake to the end of the connection.
    pub lifetime: Quantiles,
}

/// Durations in short, in microseconds, each up to an eighth too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantiles {
    /// How many were measured.
    pub count: u64,
    /// What half of them do not exceed; `null` without any.
    pub p50_us: Option<u64>,
    /// What 99 % of them do not exceed.
    pub p99_us: Option<u64>,
    /// What 99.9 % of them do not exceed.
    pub p999_us: Option<u64>,
}

impl Quantiles {
    /// Of a histogram.
    pub fn of(histogram: &hotlb_values::Histogram) -> Self {
        let quantile = |part| {
            let found = histogram.quantile(part)?;
            u64::try_from(found.as_micros()).ok()
        };
        Self {
            count: histogram.count(),
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
            p999_us: quantile(0.999),
        }
    }
}

/// A generation's connections.
pub type Connections = hotlb_values::ConnectionCounts;

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
    /// Handshakes that were dropped, most of them because the queue was full; their clients try
    /// again after a second.
    #[serde(default)]
    pub dropped: u32,
    /// Whether `steer` can choose it.
    pub steered: bool,
    /// Open connections that came through it; `null` where they are not counted, which they are
    /// for `workers = "least"` only.
    #[serde(default)]
    pub open: Option<u64>,
    /// How long nothing was taken from its queue, if it left the choice for that.
    #[serde(default)]
    pub hangs_for_ms: Option<u64>,
}

/// Which listener of a generation takes a connection.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// As configured.
    pub configured: WorkerChoice,
    /// "hash", "cpu" or "least": what `auto` comes to.
    pub now: String,
}

impl WorkerStatus {
    /// Whether the kernel's own hash chooses.
    pub fn is_hash(&self) -> bool {
        self.now == Workers::Hash.name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_an_agent_of_version_1_says_that_a_server_was_signalled() {
        let text = r#"{"signal": "SIGTERM", "pids": [7], "program": "node", "effect": "unknown", "why": "",
            "after_ms": null, "in_ms": null, "told_ms_ago": 3000}"#;
        let ending: EndingStatus = serde_json::from_str(text).unwrap();
        assert_eq!(ending.signalled_ms_ago, Some(3000));
    }
}
