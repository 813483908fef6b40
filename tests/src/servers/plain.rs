//! The command line of `plain-server`.

use std::fmt::Display;

use anyhow::Result;

use super::CommandLine;
use crate::locate;

/// A generation of `plain-server`.
#[derive(Debug, Clone)]
pub struct Plain {
    arguments: Vec<String>,
}

impl Plain {
    /// Answers with `name`; does not listen anywhere yet.
    pub fn new(name: &str) -> Self {
        Self {
            arguments: vec!["--name".to_owned(), name.to_owned()],
        }
    }

    /// Listens on `address` too.
    #[must_use]
    pub fn listen(self, address: &str) -> Self {
        self.option("--listen", address)
    }

    /// One more flag without a value.
    #[must_use]
    pub fn flag(mut self, flag: &str) -> Self {
        self.arguments.push(flag.to_owned());
        self
    }

    /// One more flag with a value.
    #[must_use]
    pub fn option(mut self, flag: &str, value: impl Display) -> Self {
        self.arguments.extend([flag.to_owned(), value.to_string()]);
        self
    }

    /// The command line.
    pub fn command(&self) -> Result<CommandLine> {
        let binary = locate::plain_server()?.display().to_string();
        Ok(std::iter::once(binary)
            .chain(self.arguments.iter().cloned())
            .collect())
    }
}
