//! `python3 -m http.server`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::CommandLine;

/// The command line of a generation whose `index.html` holds its name.
pub fn command(directory: &Path, name: &str, address: &str, port: u16) -> Result<CommandLine> {
    let root = directory.join(format!("python-{name}"));
    fs::create_dir_all(&root)?;
    fs::write(root.join("index.html"), format!("{name}\n"))?;
    let binary = binary()
        .context("python3 is not installed")?
        .display()
        .to_string();
    let port = port.to_string();
    let root = root.display().to_string();
    let words = [
        &binary,
        "-m",
        "http.server",
        "--bind",
        address,
        "--directory",
        &root,
        &port,
    ];
    Ok(words.map(str::to_owned).to_vec())
}

/// The distribution's own python: one from a version switcher is a script that starts another process.
pub fn binary() -> Option<PathBuf> {
    Some(PathBuf::from("/usr/bin/python3")).filter(|path| path.exists())
}
