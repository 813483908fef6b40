//! The command line of `quic-server`.

use std::fmt::Display;

use anyhow::Result;

use super::CommandLine;
use crate::locate;

/// A generation of `quic-server`.
#[derive(Debug, Clone)]
pub struct Quic {
    arguments: Vec<String>,
}

impl Quic {
    /// Answers with `name` at `0.0.0.0:port`.
    pub fn new(name: &str, port: u16) -> Self {
        let bare = Self {
            arguments: vec!["--name".to_owned(), name.to_owned()],
        };
        bare.option("--listen", format!("0.0.0.0:{port}"))
    }

    /// One more flag with a value.
    #[must_use]
    pub fn option(mut self, flag: &str, value: impl Display) -> Self {
        self.arguments.extend([flag.to_owned(), value.to_string()]);
        self
    }

    /// The command line.
    pub fn command(&self) -> Result<CommandLine> {
        let binary = locate::quic_server()?.display().to_string();
        Ok(std::iter::once(binary)
            .chain(self.arguments.iter().cloned())
            .collect())
    }
}
