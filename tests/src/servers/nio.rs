//! `Nio.java`: a server as Java's are made, on a selector.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::CommandLine;
use crate::{command, locate};

/// The compiler starts slowly.
const LIMIT: Duration = Duration::from_mins(1);

/// The command line of a generation that answers `NAME LENGTH`, compiled when it is asked for the first time.
pub fn command(directory: &Path, name: &str, address: &str, port: u16) -> Result<CommandLine> {
    if !directory.join("Nio.class").exists() {
        let source = directory.join("Nio.java");
        fs::write(&source, include_str!("Nio.java"))?;
        let compiler = locate::program("javac").context("javac is not installed")?;
        let mut compile = Command::new(compiler);
        compile.arg("-d").arg(directory).arg(source);
        command::run(&mut compile, LIMIT)?.expect_success()?;
    }
    let java = binary().context("java is not installed")?;
    let words = [
        java.display().to_string(),
        "-XX:TieredStopAtLevel=1".to_owned(),
        "-cp".to_owned(),
        directory.display().to_string(),
        "Nio".to_owned(),
        address.to_owned(),
        port.to_string(),
        name.to_owned(),
    ];
    Ok(words.to_vec())
}

/// Where java is, if its compiler is there too.
pub fn binary() -> Option<PathBuf> {
    locate::program("javac").and_then(|_| locate::program("java"))
}
