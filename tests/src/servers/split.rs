//! `split-server`, whose CPU time is in three functions.

use anyhow::Result;

use super::CommandLine;
use crate::locate;

/// The command line of a generation on port 8080 with more arguments.
pub fn command(name: &str, arguments: &[&str]) -> Result<CommandLine> {
    let binary = locate::split_server()?.display().to_string();
    let own = [binary.as_str(), "--name", name, "--listen", "0.0.0.0:8080"];
    let words = own.iter().chain(arguments);
    Ok(words.map(|&word| word.to_owned()).collect())
}

/// The command line of a generation on port 8080 that spends its CPU time likewise, all the time, and has frame
/// pointers.
pub fn with_frame_pointers(name: &str) -> CommandLine {
    [env!("POINTER_SERVER"), name, "0.0.0.0:8080"]
        .map(str::to_owned)
        .to_vec()
}
