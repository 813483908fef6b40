//! What the operator says: places, services, policies. Read and checked before anything is done.

mod command_line;
mod datagrams;
#[cfg(test)]
mod docs;
mod error;
mod file;
mod health;
mod history;
mod hook_tables;
mod hooks;
mod incidents;
mod log;
mod outputs;
mod places;
mod policy;
mod policy_tables;
mod profiling;
mod service;
mod traces;

pub use datagrams::{Datagrams, FlowMode, Listen};
pub use error::ConfigError;
pub use file::{AgentConfig, Config, METRICS_EXPIRE, MetricsAddress};
pub use health::Health;
pub use history::Retention;
pub use hooks::{Hook, HookError, HookPhase};
pub use incidents::{IncidentPolicy, IncidentRetention};
pub use log::{LogConfig, LogFormat};
pub use outputs::OutputPlaces;
pub use places::Places;
pub use policy::{DrainPolicy, KeepPolicy, Leftovers, LongLived, PoliteMode};
pub use profiling::KeptProfiles;
pub use service::{
    ForeignProgram, HandOver, Reserve, SERVICE_NAME_LENGTH, ServiceConfig, Undeclared,
    WorkerChoice, check_name,
};
pub use traces::{TracesConfig, TracesProtocol};
