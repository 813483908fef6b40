//! What a scrape sees: values of one moment, of which the metrics are made.

use std::{collections::BTreeMap, time::Duration};

pub use crate::own_process::OwnProcess;
use crate::{
    api::wire::{
        DatagramStatus, DrainStatus, KeptProfilesStatus, PoliteStatus, ProgramStatus,
        SteeringStatus,
    },
    generation::usage::Usage,
    rollout::{GenerationState, Phase},
    store::RolloutStats,
    values::{ConnectionCounts, Latencies},
};

/// An agent and its services.
#[derive(Debug, Default)]
pub struct Observed {
    /// Whether new rollouts can be written down.
    pub journal_writable: bool,
    /// What it relies on and somebody else can take away.
    pub supports: Vec<ObservedSupport>,
    /// What the agent itself uses; `None` where /proc does not say.
    pub process: Option<OwnProcess>,
    /// Bytes of output that had to be given up, by service.
    pub dropped: BTreeMap<String, u64>,
    /// By name.
    pub services: Vec<ObservedService>,
}

/// Something that the agent relies on.
#[derive(Clone, Copy, Debug)]
pub struct ObservedSupport {
    /// Its name in the metrics.
    pub name: &'static str,
    /// How often it was put back.
    pub restored: u64,
    /// Whether it is gone, and cannot be put back.
    pub is_missing: bool,
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
    /// How long the clients of all of them waited.
    pub latency: Latencies,
    /// Connections that wait for a generation.
    pub parked: u64,
    /// How `steer` decided.
    pub steering: SteeringStatus,
    /// Its UDP side, if it has one.
    pub udp: Option<DatagramStatus>,
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
    /// Which object's programs decide.
    pub programs: ProgramStatus,
    /// Groups about which somebody else's program decides.
    pub foreign_programs: u64,
    /// Sockets at its ports that are not in its groups, or there without a slot.
    pub stray_sockets: u64,
    /// Where the rollout that goes on stands.
    pub phase: Option<Phase>,
    /// What its rollouts came to.
    pub rollout_stats: RolloutStats,
}

/// The slowest of a generation's clients in the rollout that goes on, or in the last one that the
/// generation had a part in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slowest {
    /// The rollout's trace: 32 hexadecimal digits.
    pub trace: String,
    /// The end of the bucket of the greatest [`Latencies::queue_wait`], in seconds.
    pub queue_wait: Option<f64>,
    /// Likewise of [`Latencies::service_time`].
    pub service_time: Option<f64>,
    /// Likewise of [`Latencies::lifetime`].
    pub lifetime: Option<f64>,
}

/// A generation.
#[derive(Debug)]
pub struct ObservedGeneration {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: GenerationState,
    /// How many of its listeners hang.
    pub hung_listeners: u64,
    /// For how long it has taken nothing up, if it is active and hangs.
    pub hangs_for: Option<Duration>,
    /// Its connections.
    pub connections: ConnectionCounts,
    /// Flows of UDP clients that are with it; `None` for a service without UDP.
    pub flows: Option<u64>,
    /// How long its clients waited; `None` once its seat is another's.
    pub latency: Option<Latencies>,
    /// Its slowest clients in a rollout; `None` if it has had a part in none.
    pub slowest: Option<Slowest>,
    /// How far its drain is, while it drains or ends.
    pub drain: Option<DrainStatus>,
    /// What it uses; `None` once it has ended.
    pub usage: Option<Usage>,
}
