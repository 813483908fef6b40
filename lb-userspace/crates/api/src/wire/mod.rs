//! The API's values, as JSON. `hotlb status --output json` prints [`Status`] as it is.

mod flows;
mod incidents;
mod line;
mod request;
mod status;

use serde::{Deserialize, Serialize};

pub use self::{flows::*, incidents::*, line::*, request::*, status::*};
pub use hotlb_core::{
    history::{
        CutConnection, Entry, GenerationRef, Outcome, Record, RolloutDetail, RolloutId,
        RolloutKind, Summary, Who,
    },
    incident::{
        Incident, IncidentId, NoIncidentId, Phase as WaitPhase, Quantiles as WindowQuantiles,
        SlowConnection, Summary as IncidentSummary, Window,
    },
    rollout::Phase,
};
pub use hotlb_values::profile::{Frame, FrameKind, Measure, Profile, Sampled, Stack, Unwind};

/// The version of the API. In 2 the field `candidate` of a service is `fallback`, and `told_ms_ago` is
/// `signalled_ms_ago`.
pub const VERSION: u32 = 2;

/// The earliest version that a client of now still speaks, with agents that know no later one: of f4d529e.
pub const EARLIEST: u32 = 1;

/// The header that carries it.
pub const VERSION_HEADER: &str = "hotlb-api";

/// Rollouts in short: the answer to `GET /v1/history`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct History {
    /// The version of the API.
    pub api: u32,
    /// The rollouts, newest first.
    pub rollouts: Vec<Summary>,
}
