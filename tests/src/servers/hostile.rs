//! `hostile-server`, which does what it can to its supervisor.

use anyhow::Result;

use super::CommandLine;
use crate::locate;

/// The command line of a generation with more arguments.
pub fn command(name: &str, listen: &str, arguments: &[&str]) -> Result<CommandLine> {
    let binary = locate::hostile_server()?.display().to_string();
    let own = [
        "sh",
        "-c",
        "ulimit -n $(ulimit -Hn) && exec \"$0\" \"$@\"",
        &binary,
        "--name",
        name,
        "--listen",
        listen,
    ];
    let words = own.iter().chain(arguments);
    Ok(words.map(|&word| word.to_owned()).collect())
}
