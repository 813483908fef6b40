//! Rollouts: what the verbs ask for, carried out step by step, and written down before it is
//! done.

mod broken;
mod effects;
mod execute;
mod failover;
mod hooks;
mod late;
mod parked;
mod plan;
mod report;
mod resume;
mod rollback;
mod start;

pub(super) use plan::{InFlight, Plan};
