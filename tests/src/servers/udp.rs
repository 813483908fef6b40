//! The command line of `udp-server`.

use std::fmt::Display;

use anyhow::Result;

use super::CommandLine;
use crate::locate;

/// A generation of `udp-server`.
#[derive(Debug, Clone)]
pub struct Udp {
    arguments: Vec<String>,
}

impl Udp {
    /// Answers with `name` at `0.0.0.0:port`.
    pub fn new(name: &str, port: u16) -> Self {
        Self::at(name, &format!("0.0.0.0:{port}"))
    }

    /// Answers with `name` at `address`.
    pub fn at(name: &str, address: &str) -> Self {
        let bare = Self {
            arguments: vec!["--name".to_owned(), name.to_owned()],
        };
        bare.option("--listen", address)
    }

    /// One more flag with a value.
    #[must_use]
    pub fn option(mut self, flag: &str, value: impl Display) -> Self {
        self.arguments.extend([flag.to_owned(), value.to_string()]);
        self
    }

    /// The command line.
    pub fn command(&self) -> Result<CommandLine> {
        let binary = locate::udp_server()?.display().to_string();
        Ok(std::iter::once(binary)
            .chain(self.arguments.iter().cloned())
            .collect())
    }
}
