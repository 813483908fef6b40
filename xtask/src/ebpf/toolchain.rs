//! All it takes to build the kernel programs: a compiler, bpf-linker, and an LLVM for bpf-linker.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{
    manifest::Tools,
    rustc::{self, Compiler, Version},
};
use crate::{command, search_path};

/// The version of bpf-linker that `cargo xtask setup` installs.
pub(crate) const BPF_LINKER: &str = "0.10.3";

/// All it takes to build the object.
#[derive(Debug)]
pub(crate) struct Toolchain {
    /// The compiler.
    pub(crate) compiler: Compiler,
    bpf_linker: String,
    /// The directory with the LLVM for bpf-linker.
    pub(crate) llvm: PathBuf,
    llvm_version: String,
}

impl Toolchain {
    /// Looks for one on this machine; the error says what is missing.
    pub(crate) fn find() -> Result<Self> {
        let compiler = Compiler::find()?;
        let bpf_linker = bpf_linker_version()?;
        let (llvm, llvm_version) = llvm_for_linker(&compiler)?;
        Ok(Self {
            compiler,
            bpf_linker,
            llvm,
            llvm_version,
        })
    }

    /// As the manifest has it, with the version of aya-ebpf that `lock` pins.
    pub(crate) fn tools(&self, lock: &Path) -> Result<Tools> {
        Ok(Tools {
            rustc: self.compiler.version.line.clone(),
            rustc_llvm: self.compiler.version.llvm.clone(),
            bpf_linker: self.bpf_linker.clone(),
            bpf_linker_llvm: self.llvm_version.clone(),
            aya_ebpf: locked_version(&fs::read_to_string(lock)?, "aya-ebpf")?,
        })
    }
}

/// The version of the bpf-linker that would be used.
pub(crate) fn bpf_linker_version() -> Result<String> {
    let path = search_path::find("bpf-linker").context("bpf-linker is not there")?;
    let text = command::capture(Command::new(path).arg("--version"))?;
    Ok(text.trim_start_matches("bpf-linker ").to_owned())
}

/// The newest LLVM at hand whose version begins as the compiler's does, with its directory: the
/// toolchains of rustup bring a library, and bpf-linker loads the first one it finds.
fn llvm_for_linker(compiler: &Compiler) -> Result<(PathBuf, String)> {
    let wanted = major(&compiler.version.llvm);
    let sysroots = [
        active_sysroot(),
        nightly_sysroot(),
        Ok(compiler.sysroot.clone()),
    ];
    for sysroot in sysroots.into_iter().flatten() {
        let version = Version::of(&sysroot.join("bin/rustc"))?.llvm;
        let directory = sysroot.join("lib");
        if major(&version) == wanted && has_llvm(&directory)? {
            return Ok((directory, version));
        }
    }
    bail!("no toolchain of rustup has LLVM {wanted}, which bpf-linker must load")
}

fn major(version: &str) -> &str {
    version.split('.').next().unwrap_or(version)
}

fn has_llvm(directory: &Path) -> io::Result<bool> {
    let mut names = fs::read_dir(directory)?
        .flatten()
        .map(|entry| entry.file_name());
    Ok(names.any(|name| name.to_string_lossy().starts_with("libLLVM")))
}

fn active_sysroot() -> Result<PathBuf> {
    rustc::sysroot(&search_path::find("rustc").context("rustc is not there")?)
}

fn nightly_sysroot() -> Result<PathBuf> {
    rustc::sysroot(&rustc::nightly()?)
}

fn locked_version(lock: &str, package: &str) -> Result<String> {
    let lock: toml::Table = lock.parse()?;
    let packages = lock
        .get("package")
        .and_then(toml::Value::as_array)
        .into_iter()
        .flatten();
    let field = |package: &toml::Value, name| {
        package
            .get(name)
            .and_then(toml::Value::as_str)
            .map(str::to_owned)
    };
    let mut named = packages.filter(|entry| field(entry, "name").as_deref() == Some(package));
    let version = named.next().and_then(|entry| field(entry, "version"));
    version.with_context(|| format!("{package} is not in the lock file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_locked_version_is_found() {
        let lock = "[[package]]\nname = \"a\"\nversion = \"1.0.0\"\n[[package]]\nname = \"b\"\nversion = \"2.0.0\"\n";
        assert_eq!(locked_version(lock, "b").unwrap(), "2.0.0");
        locked_version(lock, "c").unwrap_err();
    }
}
