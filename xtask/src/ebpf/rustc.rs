//! The compilers for kernel programs that a machine may have.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{command, search_path};

/// Older compilers have not been tried with the kernel programs.
const OLDEST: (u32, u32) = (1, 96);
/// Where Debian's packages put theirs.
const DEBIAN: &str = "/usr/bin/rustc";

/// A compiler that has the sources of its own `core`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Compiler {
    path: PathBuf,
    /// Where its libraries and sources lie.
    pub(super) sysroot: PathBuf,
    /// What it says of itself.
    pub(crate) version: Version,
}

/// What `rustc -vV` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    /// Its first line.
    pub(crate) line: String,
    /// The release, such as `1.96.0`.
    pub(crate) release: String,
    /// The version of its LLVM.
    pub(crate) llvm: String,
}

impl Compiler {
    /// Debian's first: the object that is checked in comes from it.
    pub(crate) fn find() -> Result<Self> {
        let debian = Self::at(Path::new(DEBIAN));
        let nightly = || Self::at(&nightly()?);
        debian.or_else(|debian| {
            nightly().map_err(|nightly| {
                anyhow::anyhow!("Debian's compiler: {debian:#}; rustup's nightly: {nightly:#}")
            })
        })
    }

    fn at(path: &Path) -> Result<Self> {
        let version = Version::of(path)?;
        let sysroot = sysroot(path)?;
        let compiler = Self {
            path: path.to_owned(),
            sysroot,
            version,
        };
        compiler.check()?;
        Ok(compiler)
    }

    fn check(&self) -> Result<()> {
        let release = &self.version.release;
        let (major, minor) = OLDEST;
        if !self.version.is_at_least(OLDEST) {
            bail!("it is {release}, older than {major}.{minor}");
        }
        if !self.library().join("core/src/lib.rs").is_file() {
            bail!("it is {release}, but without its sources (rust-src)");
        }
        match self.version_of_sources() {
            Some(sources) if !sources.starts_with(release.as_str()) => {
                bail!("it is {release}, but its sources are those of {sources}")
            }
            _ => Ok(()),
        }
    }

    /// A source archive carries its version; rustup's component does not and needs not.
    fn version_of_sources(&self) -> Option<String> {
        let text = fs::read_to_string(self.library().parent()?.join("version")).ok()?;
        Some(text.trim().to_owned())
    }

    /// The directory of `core`'s package, among others.
    fn library(&self) -> PathBuf {
        self.sysroot.join("lib/rustlib/src/rust/library")
    }

    /// Makes `cargo` use this compiler. Building `core` is a feature of nightly compilers only,
    /// unless the compiler is told to do as if it were one.
    pub(crate) fn choose_for(&self, cargo: &mut Command) {
        cargo.env("RUSTC", &self.path).env("RUSTC_BOOTSTRAP", "1");
    }
}

impl Version {
    /// Asks the compiler at `rustc`.
    pub(super) fn of(rustc: &Path) -> Result<Self> {
        if !rustc.is_file() {
            bail!("{} is not there", rustc.display());
        }
        Self::parse(&command::capture(Command::new(rustc).arg("-vV"))?)
    }

    fn parse(text: &str) -> Result<Self> {
        let field = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name));
            value
                .map(str::to_owned)
                .with_context(|| format!("no `{name}` in `rustc -vV`"))
        };
        Ok(Self {
            line: text.lines().next().unwrap_or_default().to_owned(),
            release: field("release: ")?,
            llvm: field("LLVM version: ")?,
        })
    }

    fn is_at_least(&self, oldest: (u32, u32)) -> bool {
        let mut numbers = self.release.split('.').map(str::parse::<u32>);
        let mut next = || numbers.next()?.ok();
        next().zip(next()).is_some_and(|version| version >= oldest)
    }
}

/// Where the compiler at `rustc` has its libraries.
pub(super) fn sysroot(rustc: &Path) -> Result<PathBuf> {
    Ok(command::capture(Command::new(rustc).args(["--print", "sysroot"]))?.into())
}

/// The compiler of rustup's nightly toolchain.
pub(super) fn nightly() -> Result<PathBuf> {
    let rustup = search_path::find("rustup").context("rustup is not there")?;
    let mut rustup = Command::new(rustup);
    Ok(command::capture(rustup.args(["which", "rustc", "--toolchain", "nightly"]))?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str =
        "rustc 1.96.0 (ac68faa20 2026-05-25)\nbinary: rustc\nrelease: 1.96.0\nLLVM version: 22.1.8";

    #[test]
    fn versions_are_parsed_and_compared() {
        let version = Version::parse(SAMPLE).unwrap();
        assert_eq!(
            (version.release.as_str(), version.llvm.as_str()),
            ("1.96.0", "22.1.8")
        );
        assert!(version.is_at_least((1, 96)) && !version.is_at_least((1, 97)));
        assert!(!version.is_at_least((2, 0)));
        let nightly = Version {
            release: "1.97.0-nightly".to_owned(),
            ..version
        };
        assert!(nightly.is_at_least((1, 97)));
    }
}
