//! `hotlb status --output json`, as far as the tests read it.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use nix::unistd::Pid;
use serde::Deserialize;

/// The whole answer.
#[derive(Debug, Clone, Deserialize)]
pub struct Status {
    /// Version of the control API.
    pub api: u32,
    /// The agent's pid.
    pub pid: i32,
    /// Every service of the configuration.
    pub services: Vec<Service>,
}

/// One service.
#[derive(Debug, Clone, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// `overlap` or `inherit`.
    pub mode: String,
    /// The declared addresses.
    pub listen: Vec<String>,
    /// The generation that gets new connections.
    pub active: Option<String>,
    /// The generation that takes over when the active one has no listener left.
    pub fallback: Option<String>,
    /// The generation a rollback goes to.
    pub previous: Option<String>,
    /// Grows with every decision.
    pub epoch: u64,
    /// Its UDP side.
    pub udp: Option<Datagrams>,
    /// Connections waiting in the parking listeners.
    pub parked: u64,
    /// Somebody outside has the ports.
    pub awaits_adopt: bool,
    /// What is degraded.
    pub warnings: Vec<String>,
    /// One per listen address.
    pub groups: Vec<Group>,
    /// The program's counters.
    pub steering: Steering,
    /// How clients are asked to leave.
    pub polite: Polite,
    /// Which listener of a generation takes a connection.
    pub workers: Workers,
    /// Whose programs decide; nothing from an agent of layout 5.
    pub programs: Option<Programs>,
    /// Every generation the agent knows.
    pub generations: Vec<Generation>,
}

/// Whose programs decide.
#[derive(Debug, Clone, Deserialize)]
pub struct Programs {
    /// The beginning of their object's digest.
    pub object: Option<String>,
    /// Of the maps.
    pub layout: u64,
    /// Whether they are those of the agent that answers.
    pub own: bool,
    /// Why they are not.
    pub reason: Option<String>,
}

/// Which listener of a generation takes a connection.
#[derive(Debug, Clone, Deserialize)]
pub struct Workers {
    /// As configured.
    pub configured: String,
    /// As it is now.
    pub now: String,
}

/// A reuseport group.
#[derive(Debug, Clone, Deserialize)]
pub struct Group {
    /// The declared address.
    pub address: String,
    /// Whether the parking listener is IPv6 only; none for IPv4.
    pub v6only: Option<bool>,
    /// Connections waiting in it.
    pub parking_queue: u64,
}

/// Polite drain.
#[derive(Debug, Clone, Deserialize)]
pub struct Polite {
    /// By what clients are asked; none: they are not.
    #[serde(default)]
    pub way: Option<String>,
    /// Why not, where they should be.
    #[serde(default)]
    pub why_not: Option<String>,
    /// Connections that are being asked now.
    pub leaving: u64,
    /// What was done with the responses that were looked at.
    pub responses: BTreeMap<String, u64>,
}

/// How often each way was taken.
pub type Exits = BTreeMap<String, u64>;

/// The counters of `steer`.
#[derive(Debug, Clone, Deserialize)]
pub struct Steering {
    /// Runs of the program.
    pub calls: u64,
    /// Ways out for new connections.
    pub exits: Exits,
    /// Ways out for connections that were moved.
    pub migrated: Exits,
}

impl Steering {
    /// Fails unless every call left by exactly one counted exit.
    pub fn check_balance(&self) -> Result<()> {
        let sum: u64 = self.exits.values().chain(self.migrated.values()).sum();
        ensure!(
            sum == self.calls,
            "{} calls, but {sum} exits: {self:?}",
            self.calls
        );
        Ok(())
    }

    /// New connections that left by `exit`.
    pub fn exit(&self, exit: &str) -> Result<u64> {
        self.exits
            .get(exit)
            .copied()
            .with_context(|| format!("no exit {exit:?} in {:?}", self.exits))
    }

    /// Connections that were moved, to wherever.
    pub fn moved(&self) -> u64 {
        self.migrated.values().sum()
    }
}

/// The UDP side of a service.
#[derive(Debug, Clone, Deserialize)]
pub struct Datagrams {
    /// The declared addresses.
    pub listen: Vec<String>,
    /// tuple, quic or none.
    pub flow: String,
    /// Runs of the program.
    pub calls: u64,
    /// Ways out.
    pub exits: Exits,
    /// Flows there are.
    pub flows: u64,
    /// Flows that began.
    pub begun: u64,
    /// Flows that went to another generation before they were idle.
    pub moved: u64,
    /// Connections of QUIC that went on under another address.
    pub readdressed: u64,
    /// Flows that gave way to others.
    pub evicted: u64,
}

impl Datagrams {
    /// Fails unless every call left by exactly one counted exit.
    pub fn check_balance(&self) -> Result<()> {
        let sum: u64 = self.exits.values().sum();
        ensure!(sum == self.calls, "{} calls, but {sum} exits", self.calls);
        Ok(())
    }

    /// Datagrams that left by `exit`.
    pub fn exit(&self, exit: &str) -> Result<u64> {
        let count = self.exits.get(exit).copied();
        count.with_context(|| format!("no exit {exit:?} in {:?}", self.exits))
    }
}

/// One generation.
#[derive(Debug, Clone, Deserialize)]
pub struct Generation {
    /// Its name.
    pub name: String,
    /// Its id, never used again.
    pub id: u64,
    /// starting, ready, active, draining, standby, stopping, stopped or failed.
    pub state: String,
    /// launched, exec or adopted.
    pub origin: String,
    /// The first process.
    pub pid: Option<i32>,
    /// The recorded command.
    pub command: Vec<String>,
    /// Why it failed.
    pub reason: Option<String>,
    /// Connections counted.
    pub connections: Connections,
    /// How long its clients waited.
    pub latency: Latency,
    /// Flows of UDP clients; none for a service without UDP.
    pub flows: Option<u64>,
    /// How a rollback to it goes: hot, warm or cold.
    pub tier: Option<String>,
    /// Its processes are frozen.
    pub frozen: bool,
    /// How far its drain is.
    pub drain: Option<Drain>,
    /// Its listening sockets.
    pub listeners: Vec<Listener>,
    /// Where its processes' output goes.
    pub output: std::path::PathBuf,
}

impl Generation {
    /// The first process; an error when there is none.
    pub fn process(&self) -> Result<Pid> {
        Ok(Pid::from_raw(self.pid.with_context(|| {
            format!("{} has no process: {self:?}", self.name)
        })?))
    }
}

/// How far a drain is.
#[derive(Debug, Clone, Deserialize)]
pub struct Drain {
    /// queues, leaving, finishing or `long_lived`.
    pub step: String,
    /// Connections when it began.
    pub initially: u64,
    /// Connections left.
    pub left: u64,
    /// How long it has taken.
    pub elapsed_ms: u64,
    /// When what is left is ended.
    pub deadline_in_ms: u64,
    /// When it will be over, as far as can be told.
    pub predicted_ms: Option<u64>,
}

/// How long clients waited.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Latency {
    /// From the handshake to the first read.
    pub queue_wait: Quantiles,
    /// From the first read of a request to the first write of its answer.
    pub service_time: Quantiles,
    /// From the handshake to the end.
    pub lifetime: Quantiles,
}

/// A histogram in short, microseconds.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Quantiles {
    /// How many were measured.
    pub count: u64,
    /// What half of them do not exceed.
    pub p50_us: Option<u64>,
    /// What 99 % of them do not exceed.
    pub p99_us: Option<u64>,
}

/// Connections of a generation.
#[derive(Debug, Clone, Deserialize)]
pub struct Connections {
    /// Opened so far.
    pub opened: u64,
    /// Closed so far.
    pub closed: u64,
    /// Ended by a reset.
    pub aborted: u64,
    /// Open now.
    pub live: i64,
    /// What a client did not get all from.
    pub lost: Losses,
    /// Bytes from clients, of connections that ended.
    pub received_bytes: u64,
    /// Bytes to clients, of connections that ended.
    pub sent_bytes: u64,
}

/// Connections that a client did not get all from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct Losses {
    /// Reset in the accept queue.
    pub queued: u64,
    /// Ended with a request and not a byte of its answer.
    pub unanswered: u64,
    /// Reset with bytes of an answer on their way.
    pub mid_response: u64,
    /// Reset with nothing to be answered.
    pub idle: u64,
    /// No socket took the client's SYN.
    pub refused: u64,
    /// Left by the client before its answer.
    pub abandoned: u64,
}

impl Losses {
    /// These and `other`.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            queued: self.queued + other.queued,
            unanswered: self.unanswered + other.unanswered,
            mid_response: self.mid_response + other.mid_response,
            idle: self.idle + other.idle,
            refused: self.refused + other.refused,
            abandoned: self.abandoned + other.abandoned,
        }
    }
}

/// A listening socket of a generation.
#[derive(Debug, Clone, Deserialize)]
pub struct Listener {
    /// tcp or udp.
    pub protocol: String,
    /// Where it is bound.
    pub address: String,
    /// IPv6 only; none for IPv4.
    pub v6only: Option<bool>,
    /// Owner of the socket.
    pub uid: u32,
    /// Connections not accepted yet.
    pub queue: u64,
    /// How many may wait.
    pub backlog: u64,
    /// Handshakes that were dropped.
    pub dropped: u64,
    /// It is in a group the service steers.
    pub steered: bool,
    /// Open connections that came through it, where they are counted.
    pub open: Option<u64>,
    /// How long it has taken nothing, if it left the choice.
    pub hangs_for_ms: Option<u64>,
}

impl Status {
    /// The service called `name`.
    pub fn service(&self, name: &str) -> Result<&Service> {
        let found = self.services.iter().find(|service| service.name == name);
        found.with_context(|| format!("no service {name} in {self:?}"))
    }
}

impl Service {
    /// The warnings that are not about the kernel: one that cannot have clients asked to leave says so always.
    pub fn unusual(&self) -> Vec<&str> {
        let warnings = self.warnings.iter().map(String::as_str);
        warnings
            .filter(|warning| !warning.contains("are not asked to leave"))
            .collect()
    }

    /// The generation called `name`.
    pub fn generation(&self, name: &str) -> Result<&Generation> {
        let found = self
            .generations
            .iter()
            .find(|generation| generation.name == name);
        found.with_context(|| format!("no generation {name} in {self:?}"))
    }
}
