//! `cargo xtask ebpf`: the object with the kernel programs.
//!
//! It is checked in (`lb-ebpf/prebuilt`), so that a plain `cargo build` needs stable Rust only. A
//! manifest beside it says which sources and which tools it was built from.

mod build;
mod check;
pub(crate) mod compiler;
mod contents;
mod digest;
mod manifest;
pub(crate) mod rustc;
mod strip;
pub(crate) mod toolchain;
pub(crate) mod verifier;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::project::Project;

pub(crate) use check::run as check;

/// The object, below the top directory.
const OBJECT: &str = "lb-ebpf/prebuilt/hotlb.bpf.o";
/// What is known about the object, below the top directory.
const MANIFEST: &str = "lb-ebpf/prebuilt/manifest.toml";

/// The arguments of `cargo xtask ebpf`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Verb {
    /// Build the object and its manifest into lb-ebpf/prebuilt
    Build,
    /// Fail when the object in lb-ebpf/prebuilt is stale; rebuild and compare if the tools are here
    Check,
    /// Show what the verifier of this kernel spends on each program; fail when it is a tenth more than written down
    Verifier(verifier::Arguments),
}

/// Does what `arguments` ask for.
pub(crate) fn run(arguments: &Arguments, project: &Project) -> Result<()> {
    match arguments.verb {
        Verb::Build => build::run(project),
        Verb::Check => check::run(project),
        Verb::Verifier(arguments) => verifier::run(arguments, project),
    }
}
