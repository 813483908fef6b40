//! The command line. Knows the API and nothing behind it.

mod args;
mod history;
mod output;
mod status;
mod verbs;

pub use args::{
    AgentArgs, Cli, Command, DeployArgs, OutputFormat, RunArgs, ServiceArgs, StopArgs, TargetArgs,
};
pub use history::{HistoryArgs, HistoryVerb};
pub use output::{Printer, failure, relay, script};
pub use verbs::{deploy_and_promote, execute};
