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

/// Everything the agent knows: the answer to `GET /v1/status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Status {
    /// The version of the API.
    pub api: u32,
    /// The agent's version.
    pub version: String,
    /// The agent's process id.
    pub pid: u32,
    /// Warnings that do not belong to one service, for example about the journal.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// The services, by name.
    pub services: Vec<ServiceStatus>,
}

/// One service.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceStatus {
    /// The service's name.
    pub name: String,
    /// How a generation gets its listeners.
    pub mode: HandOver,
    /// The file of the service's network namespace; `null` if it is the agent's.
    #[serde(default)]
    pub netns: Option<PathBuf>,
    /// The service's TCP addresses.
    pub listen: Vec<SocketAddr>,
    /// The UDP side; `null` if the service has none.
    #[serde(default)]
    pub udp: Option<DatagramStatus>,
    /// The generation that gets new connections; `null` if there is none.
    pub active: Option<String>,
    /// The generation that takes over when the active one has no listener left; `null` if there is none.
    // `candidate` of an agent that speaks version 1.
    #[serde(alias = "candidate")]
    pub fallback: Option<String>,
    /// The generation that a rollback would activate; `null` if there is none.
    pub previous: Option<String>,
    /// Why a rollback would not start the same program; `null` if it would, or if that generation still runs.
    #[serde(default)]
    pub previous_change: Option<String>,
    /// Each store of the steering word increments it, modulo 16384.
    #[cfg_attr(feature = "schema", schemars(range(max = 16383)))]
    pub epoch: u16,
    /// Connections that wait for a generation.
    pub parked: u64,
    /// Whether a server outside hotlb has the ports: hotlb steers nothing before `hotlb adopt`.
    #[serde(default)]
    pub awaits_adopt: bool,
    /// The service's warnings, in words.
    pub warnings: Vec<String>,
    /// The service's reuseport groups.
    pub groups: Vec<GroupStatus>,
    /// What `steer` decided.
    pub steering: SteeringStatus,
    /// How hotlb asks clients to leave a draining generation.
    #[serde(default)]
    pub polite: PoliteStatus,
    /// Which listener of a generation gets a connection.
    #[serde(default)]
    pub workers: WorkerStatus,
    /// Which kernel programs decide; `null` from an agent that does not know.
    #[serde(default)]
    pub programs: Option<ProgramStatus>,
    /// The sampling for profiles that are kept; `null` if it is not configured.
    #[serde(default)]
    pub profiles: Option<KeptProfilesStatus>,
    /// Promotes since the service began.
    pub promotes: u64,
    /// Rollbacks since the service began.
    pub rollbacks: u64,
    /// Fail-overs since the service began.
    pub failovers: u64,
    /// The rollout in progress, up to its drain; `null` if there is none.
    #[serde(default)]
    pub rollout: Option<RolloutStatus>,
    /// The newest incident, for a quarter of an hour; then `null`.
    #[serde(default)]
    pub incident: Option<IncidentSummary>,
    /// The generations, oldest first.
    pub generations: Vec<GenerationStatus>,
}

/// How hotlb asks clients to leave a draining generation.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PoliteStatus {
    /// Where hotlb asks them; `null` if it does not.
    #[serde(default)]
    pub way: Option<PoliteWay>,
    /// What prevents it; `null` if nothing does.
    #[serde(default)]
    pub why_not: Option<String>,
    /// Connections that hotlb is asking to leave now.
    pub leaving: u64,
    /// Responses, by what was done with them.
    pub responses: BTreeMap<String, u64>,
}

/// Where hotlb asks clients to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PoliteWay {
    /// In the messages that the server sends.
    Messages,
    /// In the packets, where the server could not read on otherwise.
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

/// Which kernel programs decide about a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ProgramStatus {
    /// The first 16 digits of the object's SHA-256, as in `lb-ebpf/prebuilt/manifest.toml`; `null` if an agent of
    /// layout 5 loaded the programs, or if they are of several objects.
    pub object: Option<String>,
    /// The layout version of the maps.
    pub layout: u64,
    /// Whether the programs are this agent's.
    pub own: bool,
    /// Why they are not; `null` if they are.
    pub reason: Option<String>,
}

/// The sampling for profiles that are kept, and what it costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct KeptProfilesStatus {
    /// Samples per second of CPU time.
    pub frequency: u32,
    /// How long a sample is kept, in milliseconds.
    pub keep_ms: u64,
    /// Whether it samples now.
    pub runs: bool,
    /// Why it does not, or did not a moment ago; `null` otherwise.
    pub stopped: Option<String>,
    /// CPU time it has used since the agent began, in milliseconds.
    pub cpu_ms: u64,
    /// Memory it uses now, in bytes.
    pub memory_bytes: u64,
    /// Samples since the agent began.
    pub samples: u64,
}

/// One reuseport group of a service.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GroupStatus {
    /// The group's address and port.
    pub address: SocketAddr,
    /// Whether its sockets are IPv6 only; `null` for IPv4.
    pub v6only: Option<bool>,
    /// The user id that owns its sockets.
    pub uid: u32,
    /// Connections in the queue of the parking listener.
    pub parking_queue: u32,
}

/// How the calls of `steer` ended, by exit. The sum of `exits` and `migrated` is `calls`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SteeringStatus {
    /// How often `steer` ran.
    pub calls: u64,
    /// Calls for new connections, by exit.
    pub exits: BTreeMap<String, u64>,
    /// Calls for connections whose listener closed, by exit.
    pub migrated: BTreeMap<String, u64>,
}

/// One generation.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GenerationStatus {
    /// The generation's name.
    pub name: String,
    /// The generation's id.
    pub id: u32,
    /// The generation's state.
    pub state: GenerationState,
    /// The generation's first process, or the one that this process left behind when it went into the background;
    /// `null` once the generation has ended.
    pub pid: Option<u32>,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Why the generation is in this state; `null` if there is nothing to say.
    pub reason: Option<String>,
    /// How the generation was started.
    #[serde(default)]
    pub origin: Origin,
    /// Seconds in this state.
    pub for_seconds: u64,
    /// The generation's connections.
    pub connections: Connections,
    /// The generation's flows of UDP clients; `null` if the service has no UDP.
    #[serde(default)]
    pub flows: Option<u64>,
    /// How long the generation's clients waited.
    #[serde(default)]
    pub latency: LatencyStatus,
    /// What a rollback to the generation takes; `null` while it is active or starting, if it failed, and if it has
    /// ended and its supervisor starts it.
    pub tier: Option<Tier>,
    /// Whether the generation's processes are frozen.
    #[serde(default)]
    pub frozen: bool,
    /// How far the drain is; `null` unless the generation drains or ends.
    #[serde(default)]
    pub drain: Option<DrainStatus>,
    /// How hotlb signals the generation to end; `null` if it does not run, or is starting.
    #[serde(default)]
    pub ending: Option<EndingStatus>,
    /// The generation's listeners.
    pub listeners: Vec<ListenerStatus>,
    /// The file of its processes' output.
    pub output: PathBuf,
}

/// What a rollback to a generation takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// hotlb thaws its processes and stores the steering word.
    Hot,
    /// It runs: hotlb stores the steering word.
    Warm,
    /// hotlb starts its command again.
    Cold,
}

/// How hotlb signals a generation to end.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EndingStatus {
    /// The signal, for example "SIGQUIT".
    pub signal: String,
    /// The processes that get the signal: those that serve, or their masters. Empty: hotlb knows none of them, and all
    /// processes get it.
    pub pids: Vec<u32>,
    /// The program that these processes run, as hotlb knows it.
    pub program: String,
    /// What the signal does to connections: they may finish, it cuts them, or hotlb does not know.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = ["finishes", "cuts", "unknown"])))]
    pub effect: String,
    /// Why it is this signal, and how its effect is known.
    pub why: String,
    /// When hotlb sends the signal even if connections are left, from the beginning of the drain; `null`: not while
    /// there are any.
    pub after_ms: Option<u64>,
    /// The same from now; `null` unless the generation drains.
    pub in_ms: Option<u64>,
    /// How long ago hotlb sent the signal, to whole seconds; `null` before.
    // `told_ms_ago` of an agent that speaks version 1.
    #[serde(alias = "told_ms_ago")]
    pub signalled_ms_ago: Option<u64>,
}

/// How far a drain is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DrainStatus {
    /// What the drain waits for: that the accept queues are empty, that clients leave by themselves or because they are
    /// asked to, that the server finishes after its signal, that long-lived connections end, or that a data store saves
    /// its data.
    #[cfg_attr(
        feature = "schema",
        schemars(extend("enum" = ["queues", "leaving", "finishing", "long_lived", "saving"]))
    )]
    pub step: String,
    /// Connections when the drain began.
    pub initially: u64,
    /// Connections that are left.
    pub left: u64,
    /// How long the drain has taken.
    pub elapsed_ms: u64,
    /// When hotlb ends what is left; 0 once the deadline is over.
    pub deadline_in_ms: u64,
    /// When hotlb expects the drain to be over; `null` while there is no prediction.
    pub predicted_ms: Option<u64>,
}

/// The rollout in progress, up to its drain.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RolloutStatus {
    /// The rollout's id; `null` until the journal has it.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::RolloutId>"))]
    pub id: Option<String>,
    /// What was asked for.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = ["promote", "upgrade", "rollback"])))]
    pub kind: String,
    /// The generation that was active before.
    pub from: Option<String>,
    /// The generation that is active after it.
    pub to: Option<String>,
    /// The rollout's phase.
    pub phase: Phase,
    /// How long the bake continues; `null` outside the bake.
    pub bake_left_ms: Option<u64>,
}

/// How long a generation's clients waited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LatencyStatus {
    /// From the handshake to the first byte that the server reads.
    pub queue_wait: Quantiles,
    /// From the first byte of a request to the first byte of its response.
    pub service_time: Quantiles,
    /// From the handshake to the end of the connection.
    pub lifetime: Quantiles,
}

/// Quantiles of durations in microseconds, each up to an eighth too long; `null` if nothing was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Quantiles {
    /// How many durations were measured.
    pub count: u64,
    /// Half of them do not exceed this.
    pub p50_us: Option<u64>,
    /// 99 % of them do not exceed this.
    pub p99_us: Option<u64>,
    /// 99.9 % of them do not exceed this.
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

/// One listener of a generation.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListenerStatus {
    /// The protocol.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = ["tcp", "udp"])))]
    pub protocol: String,
    /// Its address and port.
    pub address: SocketAddr,
    /// Whether it is IPv6 only; `null` for IPv4.
    pub v6only: Option<bool>,
    /// The user id that owns it.
    pub uid: u32,
    /// Connections that wait to be accepted.
    pub queue: u32,
    /// How many connections may wait.
    pub backlog: u32,
    /// Dropped handshakes, most of them because the queue was full; their clients try again after a second.
    #[serde(default)]
    pub dropped: u32,
    /// Whether `steer` can choose it.
    pub steered: bool,
    /// Its open connections; `null` where hotlb does not count them: it does for `workers = "least"` only.
    #[serde(default)]
    pub open: Option<u64>,
    /// How long the server has accepted nothing from its queue, if `steer` no longer chooses it for that reason; `null`
    /// otherwise.
    #[serde(default)]
    pub hangs_for_ms: Option<u64>,
}

/// Which listener of a generation gets a connection.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WorkerStatus {
    /// As configured.
    pub configured: WorkerChoice,
    /// What `auto` currently selects; otherwise as configured.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = ["hash", "cpu", "least"])))]
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
