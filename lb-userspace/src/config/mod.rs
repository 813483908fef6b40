//! What the operator says: places, services, policies. Read and checked before anything is done.

mod error;
mod file;
mod places;
mod policy;
mod policy_tables;
mod service;

pub use error::ConfigError;
pub use file::{AgentConfig, Config, MetricsAddress};
pub use places::Places;
pub use policy::{DrainPolicy, KeepPolicy, Leftovers, LongLived};
pub use service::{
    HandOver, Health, SERVICE_NAME_LENGTH, ServiceConfig, Undeclared, check_name,
};
