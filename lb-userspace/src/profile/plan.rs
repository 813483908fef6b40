//! What is to be sampled, and how.

use std::{ops::RangeInclusive, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::sys::perf::Scope;

/// How long a profile may take.
pub const DURATION: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_mins(5);

/// Samples per second of CPU time.
pub const FREQUENCY: RangeInclusive<u32> = 1..=999;

/// How callers are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Unwind {
    /// By the tables of programs and libraries (`.eh_frame`), by frame pointers where code has none.
    #[default]
    Auto,
    /// By the tables alone.
    Dwarf,
    /// By frame pointers alone, in the kernel, where stacks are counted: cheapest; wrong for programs
    /// built without them.
    Fp,
}

impl Unwind {
    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Dwarf => "dwarf",
            Self::Fp => "fp",
        }
    }
}

/// What a profile counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// Time on a CPU.
    #[default]
    Cpu,
    /// Time off the CPUs, thread by thread: waiting for something, or for a CPU.
    Waiting,
}

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
