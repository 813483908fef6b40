//! The command line. Knows the API and nothing behind it.

mod agent;
mod args;
mod output;
mod status;
mod verbs;

pub use agent::upgrade_agent;
pub use args::{
    AgentArgs, AgentCommand, Cli, Command, DeployArgs, OutputFormat, RunArgs, ServiceArgs,
    StopArgs, TargetArgs, UpgradeAgentArgs,
};
pub use output::{Printer, failure, relay, script};
pub use verbs::{deploy_and_promote, execute};
