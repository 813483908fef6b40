//! `cargo xtask ebpf build`: builds, strips and records the object.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::{
    MANIFEST, OBJECT, compiler,
    contents::Contents,
    digest,
    manifest::{Manifest, Tools},
    strip,
    toolchain::Toolchain,
};
use crate::{command, project::Project};

/// Environment that would change what cargo builds.
const MEDDLING: [&str; 6] = [
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_TARGET_BPFEL_UNKNOWN_NONE_RUSTFLAGS",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTFLAGS",
];

/// An object as it would be checked in.
#[derive(Debug)]
pub(crate) struct Built {
    /// The stripped object.
    pub(crate) object: Vec<u8>,
    /// What is in it.
    pub(crate) contents: Contents,
    /// What built it.
    pub(crate) tools: Tools,
}

/// Builds the object and its manifest into `lb-ebpf/prebuilt`.
pub(crate) fn run(project: &Project) -> Result<()> {
    let toolchain = Toolchain::find().context("`cargo xtask setup --for ebpf` helps")?;
    let built = build(project, &toolchain)?;
    let manifest = Manifest {
        object: digest::of_bytes(&built.object),
        sources: digest::of_sources(project.root())?,
        tools: built.tools,
    };
    let object = project.path(OBJECT);
    fs::create_dir_all(project.path("lb-ebpf/prebuilt"))?;
    fs::write(&object, &built.object).with_context(|| object.display().to_string())?;
    manifest.write(&project.path(MANIFEST))?;
    let (size, instructions) = (built.object.len(), built.contents.instructions());
    println!("wrote {OBJECT} ({size} bytes, {instructions} instructions) and {MANIFEST}");
    Ok(())
}

/// Builds the object without writing it into the checkout.
pub(crate) fn build(project: &Project, toolchain: &Toolchain) -> Result<Built> {
    let path = compile(project, toolchain)?;
    let raw = fs::read(&path).with_context(|| path.display().to_string())?;
    let object = strip::without_dwarf(&raw)?;
    let contents = Contents::parse(&object)?;
    ensure!(
        contents == Contents::parse(&raw)?,
        "taking the DWARF out changed programs or maps"
    );
    let tools = toolchain.tools(&project.path("lb-ebpf/Cargo.lock"))?;
    Ok(Built {
        object,
        contents,
        tools,
    })
}

/// Runs cargo; gives the path of the unstripped object.
fn compile(project: &Project, toolchain: &Toolchain) -> Result<PathBuf> {
    let target = project.metadata()?.target_directory.join("ebpf");
    let mut cargo = project.cargo();
    for variable in MEDDLING {
        cargo.env_remove(variable);
    }
    // The flags of the kernel programs stand in their own .cargo/config.toml.
    cargo.current_dir(project.path("lb-ebpf"));
    cargo
        .args(["build", "--release", "--locked", "--target-dir"])
        .arg(&target);
    toolchain.compiler.choose_for(&mut cargo);
    compiler::put_between(&mut cargo, &toolchain.llvm)?;
    command::run(&mut cargo)?;
    Ok(target.join(compiler::TARGET).join("release/hotlb"))
}
