//! Where the project lies.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::command;

/// The checkout this program works on.
#[derive(Debug)]
pub(crate) struct Project {
    root: PathBuf,
}

/// What cargo says about the workspace.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    /// Where cargo builds.
    pub(crate) target_directory: PathBuf,
}

impl Project {
    /// The project whose `cargo xtask` this is, else the one around the current directory.
    pub(crate) fn find() -> Result<Self> {
        let stated = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let start = stated.map_or_else(env::current_dir, Ok)?;
        let root = start.ancestors().find(|directory| is_root(directory));
        let root = root.with_context(|| format!("{} is not inside hotlb", start.display()))?;
        Ok(Self {
            root: root.to_owned(),
        })
    }

    /// The top directory, absolute.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A path below the top directory, made absolute.
    pub(crate) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// `cargo`, to be run in the top directory.
    pub(crate) fn cargo(&self) -> Command {
        let mut cargo = Command::new("cargo");
        cargo
            .current_dir(&self.root)
            .env("PATH", crate::search_path::joined());
        cargo
    }

    /// Asks cargo about the workspace.
    pub(crate) fn metadata(&self) -> Result<Metadata> {
        let mut cargo = self.cargo();
        cargo.args(["metadata", "--format-version", "1", "--no-deps"]);
        Ok(serde_json::from_str(&command::capture(&mut cargo)?)?)
    }
}

fn is_root(directory: &Path) -> bool {
    directory.join("xtask/Cargo.toml").is_file() && directory.join("lb-ebpf").is_dir()
}
