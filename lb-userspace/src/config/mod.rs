//! What the operator says: places, services, policies. Read and checked before anything is done.

mod error;
mod file;
mod places;
mod service;

pub use error::ConfigError;
pub use file::{AgentConfig, Config, MetricsAddress};
pub use places::Places;
pub use service::{
    DrainPolicy, HandOver, Health, PoliteMode, SERVICE_NAME_LENGTH, ServiceConfig, Undeclared,
    check_name,
};
