//! node's http server.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::CommandLine;
use crate::locate;

/// The command line of a generation. Without an address node listens dual-stack on `[::]`, as it does by default.
pub fn command(name: &str, address: Option<&str>, port: u16) -> Result<CommandLine> {
    let binary = binary()
        .context("node is not installed")?
        .display()
        .to_string();
    let place = address.map_or_else(
        || port.to_string(),
        |address| format!("{port}, '{address}'"),
    );
    let script = format!(
        "const server = require('http').createServer((request, response) => {{ \
           response.setHeader('X-Generation', '{name}'); response.end('{name}\\n'); }}); \
         server.listen({place}); \
         process.on('SIGTERM', () => server.close());"
    );
    Ok(vec![binary, "-e".to_owned(), script])
}

/// Where node is.
pub fn binary() -> Option<PathBuf> {
    locate::program("node")
}
