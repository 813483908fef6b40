//! The values of the metrics, a file for each subject: `fn(&Observed, &mut Samples)`, one a row.

pub(super) mod agent;
pub(super) mod connections;
pub(super) mod datagrams;
pub(super) mod drain;
pub(super) mod generation;
pub(super) mod incidents;
pub(super) mod latency;
pub(super) mod profiles;
pub(super) mod rollouts;
pub(super) mod steering;
pub(super) mod usage;
