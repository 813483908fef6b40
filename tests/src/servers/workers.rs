//! `worker-server`, each of whose workers serves one connection at a time.

use anyhow::Result;

use super::CommandLine;
use crate::locate;

/// The command line of a generation with more arguments.
pub fn command(name: &str, listen: &str, arguments: &[&str]) -> Result<CommandLine> {
    let binary = locate::worker_server()?.display().to_string();
    let own = [binary.as_str(), "--name", name, "--listen", listen];
    let words = own.iter().chain(arguments);
    Ok(words.map(|&word| word.to_owned()).collect())
}
