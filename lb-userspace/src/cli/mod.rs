//! The command line. Knows the API and nothing behind it.

mod args;
mod output;
mod status;
mod verbs;

pub use args::{Cli, Command, DeployArgs, OutputFormat, RunArgs};
pub use output::{Printer, failure, relay};
pub use verbs::{deploy_and_promote, execute};
