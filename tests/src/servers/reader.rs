//! `reader.py`: reads bodies in the ways servers read.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use super::{CommandLine, python};

/// The paths that are read in a way of their own: by FIONREAD, with `MSG_WAITALL`, by `splice`, by edges.
pub const WAYS: [&str; 4] = ["/count", "/whole", "/splice", "/edges"];

/// The command line of a generation that answers `NAME LENGTH`.
pub fn command(directory: &Path, name: &str, address: &str, port: u16) -> Result<CommandLine> {
    let script = directory.join("reader.py");
    fs::write(&script, include_str!("reader.py"))?;
    let python = python::binary().context("python3 is not installed")?;
    let words = [
        python.display().to_string(),
        script.display().to_string(),
        address.to_owned(),
        port.to_string(),
        name.to_owned(),
    ];
    Ok(words.to_vec())
}
