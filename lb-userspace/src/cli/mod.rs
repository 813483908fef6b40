//! The command line. Knows the API and nothing behind it.

mod args;
mod output;
mod status;
mod verbs;

pub use args::{
    AdoptArgs, AgentArgs, Cli, Command, DeployArgs, ExecArgs, OutputFormat, RunArgs, ServiceArgs,
    StopArgs, TargetArgs,
};
pub use output::{Printer, failure, relay, script};
pub use verbs::{deploy_and_promote, enter, execute};
