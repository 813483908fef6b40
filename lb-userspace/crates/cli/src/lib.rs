//! The command line: what is typed, what is shown, and what files are made of a profile.
//!
//! It depends on `hotlb-api`, and on the crates below that for their values; it knows nothing of
//! the agent behind it.

#![forbid(unsafe_code)]

mod agent;
mod args;
mod completions;
mod destination;
#[cfg(test)]
mod docs;
mod flows;
mod history;
pub mod incidents;
mod output;
mod profile;
mod status;
mod table;
mod typed;
mod verbs;

pub use agent::upgrade_agent;
pub use args::{
    AdoptArgs, AgentArgs, AgentCommand, Cli, Command, DeployArgs, ExecArgs, OutputFormat,
    PromoteArgs, RollbackArgs, RolloutArgs, RunArgs, ServiceArgs, StopArgs, TargetArgs,
    UpgradeAgentArgs, UpgradeArgs,
};
pub use completions::completions;
pub use destination::Destination;
pub use flows::FlowsArgs;
pub use history::{HistoryArgs, HistoryVerb};
pub use output::{Printer, failure, relay, script};
pub use profile::ProfileArgs;
pub use verbs::{enter, execute, upgrade};
