//! Stock haproxy: as a server that answers by itself, or as a proxy.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::CommandLine;
use crate::locate;

/// A version of haproxy.
#[derive(Debug, Clone)]
pub struct Haproxy {
    name: String,
}

impl Haproxy {
    /// With this name.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
        }
    }

    /// The command line of one that answers every request on `address` with its name.
    pub fn answering(&self, directory: &Path, address: &str) -> Result<CommandLine> {
        let name = &self.name;
        let section = format!(
            "frontend web\n    mode http\n    bind {address}\n    http-request return status 200 content-type \
             text/plain hdr X-Generation {name} string {name}\n"
        );
        self.command(directory, &section)
    }

    /// The command line of one that passes every TCP connection to `address` on to `server`.
    pub fn forwarding(&self, directory: &Path, address: &str, server: &str) -> Result<CommandLine> {
        let section =
            format!("listen web\n    mode tcp\n    bind {address}\n    server next {server}\n");
        self.command(directory, &section)
    }

    /// Where it passes its listeners on.
    pub fn socket(&self, directory: &Path) -> PathBuf {
        directory.join(format!("haproxy-{}.sock", self.name))
    }

    fn command(&self, directory: &Path, section: &str) -> Result<CommandLine> {
        let binary = binary().context("haproxy is not installed")?;
        let file = directory.join(format!("haproxy-{}.cfg", self.name));
        let socket = self.socket(directory);
        fs::write(
            &file,
            format!(
                "global\n    maxconn 4096\n    nbthread 1\n    stats socket {} mode 600 level admin expose-fd listeners\n\
                 defaults\n    timeout connect 5s\n    timeout client 30s\n    timeout server 30s\n{section}",
                socket.display()
            ),
        )?;
        let words = [&binary, Path::new("-db"), Path::new("-f"), &file];
        Ok(words.map(|word| word.display().to_string()).to_vec())
    }
}

/// Where haproxy is.
pub fn binary() -> Option<PathBuf> {
    locate::program("haproxy")
}
