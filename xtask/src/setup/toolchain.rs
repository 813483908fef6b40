//! The toolchain for the kernel programs: a compiler with the sources of its `core`, which is
//! Debian's `rustc-web` or rustup's nightly, and bpf-linker.

use std::process::Command;

use anyhow::{Context as _, Result};

use super::{apt::Apt, outcome::Line};
use crate::{
    command,
    ebpf::{
        rustc::Compiler,
        toolchain::{BPF_LINKER, Toolchain, bpf_linker_version},
    },
    search_path,
};

const DEBIAN: [&str; 2] = ["rustc-web", "rust-web-src"];
const RUSTUP: [&str; 8] = [
    "toolchain",
    "install",
    "nightly",
    "--profile",
    "minimal",
    "--component",
    "rust-src",
    "--no-self-update",
];
const COST: &str = "the kernel programs are not built here; the object that is checked in is used";

/// Finds or installs compiler and linker, and sees whether they go together.
pub(super) fn provide(apt: &mut Apt) -> Vec<Line> {
    let mut lines = vec![compiler(apt), linker()];
    let both_there = !lines.iter().any(Line::is_missing);
    if let Err(error) = Toolchain::find().as_ref()
        && both_there
    {
        lines.push(missing("an LLVM that goes with both", error));
    }
    lines
}

fn compiler(apt: &mut Apt) -> Line {
    let name = "rustc with rust-src";
    if let Ok(compiler) = Compiler::find() {
        return Line::found(name, compiler.version.line);
    }
    let debian = apt.install(&DEBIAN).and_then(|()| Compiler::find());
    let nightly = || install_nightly().and_then(|()| Compiler::find());
    match debian.or_else(|error| nightly().with_context(|| format!("{error:#}; and from rustup"))) {
        Ok(compiler) => Line::installed(name, compiler.version.line),
        Err(error) => missing(name, &error),
    }
}

fn install_nightly() -> Result<()> {
    let rustup = search_path::find("rustup").context("rustup is not there")?;
    command::run(Command::new(rustup).args(RUSTUP))
}

fn linker() -> Line {
    let name = "bpf-linker";
    match bpf_linker_version() {
        Ok(version) if version == BPF_LINKER => return Line::found(name, version),
        Ok(version) => {
            let consequence = "its objects cannot be compared with the one that is checked in";
            return Line::found(name, format!("{version}, not {BPF_LINKER}: {consequence}"));
        }
        Err(_) => {}
    }
    match install_linker().and_then(|()| bpf_linker_version()) {
        Ok(version) => Line::installed(name, version),
        Err(error) => missing(name, &error),
    }
}

/// Its default features load the LLVM of the toolchain at hand, so no LLVM is built.
fn install_linker() -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo
        .env("PATH", search_path::joined())
        .env_remove("CARGO_TARGET_DIR");
    command::run(cargo.args(["install", "bpf-linker", "--locked", "--version", BPF_LINKER]))
}

fn missing(name: &str, error: &anyhow::Error) -> Line {
    Line::missing(name, format!("{error:#}"), COST).needed(true)
}
