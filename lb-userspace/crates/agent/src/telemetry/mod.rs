//! What the agent tells: logs, metrics, traces.

pub mod log;
pub mod metrics;
pub mod traces;
