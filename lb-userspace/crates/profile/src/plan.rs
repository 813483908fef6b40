//! What is to be sampled, and how.

use std::{ops::RangeInclusive, path::PathBuf, time::Duration};

use hotlb_sys::perf::Scope;
use hotlb_values::profile::{Measure, Unwind};
use serde::{Deserialize, Serialize};

/// How long a profile may take.
pub const DURATION: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_mins(5);

/// Samples per second of CPU time.
pub const FREQUENCY: RangeInclusive<u32> = 1..=999;

/// What the helper is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The service.
    pub service: String,
    /// The generations, one or two, sampled at the same moment.
    pub targets: Vec<Target>,
    /// What is counted.
    #[serde(default)]
    pub measure: Measure,
    /// Samples per second of CPU time, or of each thread's waiting.
    pub frequency: u32,
    /// How long.
    pub duration_ms: u64,
    /// How callers are found.
    pub unwind: Unwind,
    /// Whom the kernel samples; `null`: what costs least of what is possible here.
    #[serde(default)]
    pub scope: Option<Scope>,
    /// How many stacks find room in the kernel where they are counted there; `null`: enough.
    #[serde(default)]
    pub room: Option<u32>,
}

/// One generation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Target {
    /// Its name.
    pub generation: String,
    /// Its cgroup's directory.
    pub cgroup: PathBuf,
}
