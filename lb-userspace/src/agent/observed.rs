//! What a scrape sees: values of one moment, of which the metrics are made.

use super::OwnProcess;
use crate::{
    api::wire::{DrainStatus, KeptProfilesStatus, PoliteStatus, SteeringStatus},
    datapath::{ConnectionCounts, Histogram},
    generation::usage::Usage,
    rollout::{GenerationState, Phase},
    store::Tally,
};

/// An agent and its services.
#[derive(Debug, Default)]
pub struct Observed {
    /// Whether new rollouts can be written down.
    pub journal_writable: bool,
    /// What the agent itself uses; `None` where /proc does not say.
    pub process: Option<OwnProcess>,
    /// By name.
    pub services: Vec<ObservedService>,
}

/// A service.
#[derive(Debug, Default)]
pub struct ObservedService {
    /// Its name.
    pub name: String,
    /// Its generations, oldest first, but for those that ended long ago.
    pub generations: Vec<ObservedGeneration>,
    /// The connections of all its generations, forgotten ones and the parking listeners included.
    pub totals: ConnectionCounts,
    /// Connections that wait for a generation.
    pub parked: u64,
    /// How `steer` decided.
    pub steering: SteeringStatus,
    /// How clients are asked to leave.
    pub polite: PoliteStatus,
    /// Profiles that are kept, if they are.
    pub profiles: Option<KeptProfilesStatus>,
    /// Promotes since the service began.
    pub promotes: u64,
    /// Rollbacks since the service began.
    pub rollbacks: u64,
    /// Fail-overs since the service began.
    pub failovers: u64,
    /// What is not as it should be: how many lines `status` has of it.
    pub warnings: u64,
    /// Where the rollout that goes on stands.
    pub phase: Option<Phase>,
    /// What its rollouts came to.
    pub tally: Tally,
}

/// How long a generation's clients waited.
#[derive(Debug, Default)]
pub struct Latencies {
    /// From the handshake to the first byte that the server reads.
    pub queue_wait: Histogram,
    /// From the first byte of a request to the first byte of its answer.
    pub service_time: Histogram,
    /// From the handshake to the end of the connection.
    pub lifetime: Histogram,
}

/// A generation.
#[derive(Debug)]
pub struct ObservedGeneration {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: GenerationState,
    /// Its connections.
    pub connections: ConnectionCounts,
    /// How long its clients waited; `None` once its seat is another's.
    pub latency: Option<Latencies>,
    /// How far its drain is, while it drains or ends.
    pub drain: Option<DrainStatus>,
    /// What it uses; `None` once it has ended.
    pub usage: Option<Usage>,
}
