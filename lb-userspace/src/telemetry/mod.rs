//! What the agent tells: logs, metrics.

pub mod log;
pub mod metrics;
