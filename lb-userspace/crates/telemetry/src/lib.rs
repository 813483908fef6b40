//! What the agent tells: logs ([`log`]), metrics ([`metrics`]), traces ([`traces`]).
//!
//! It stands below the agent, which has it tell what was [`observed`], and which place in a trace a
//! rollout has ([`lineage`]).

#![forbid(unsafe_code)]

pub mod lineage;
pub mod log;
pub mod metrics;
pub mod observed;
mod own_process;
pub mod traces;

// Within this crate each part has one path, whichever crate it is in.
use hotlb_api as api;
use hotlb_core::{config, rollout};
use hotlb_generation as generation;
use hotlb_store as store;
use hotlb_values as values;
