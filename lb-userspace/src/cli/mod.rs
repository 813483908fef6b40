//! The command line. Knows the API and nothing behind it.

mod args;
mod history;
mod output;
mod status;
mod verbs;

pub use args::{
    AdoptArgs, AgentArgs, Cli, Command, DeployArgs, ExecArgs, OutputFormat, PromoteArgs,
    RollbackArgs, RolloutArgs, RunArgs, ServiceArgs, StopArgs, TargetArgs, UpgradeArgs,
};
pub use history::{HistoryArgs, HistoryVerb};
pub use output::{Printer, failure, relay, script};
pub use verbs::{enter, execute, upgrade};
