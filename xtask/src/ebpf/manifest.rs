//! `manifest.toml`: which sources and which tools the checked-in object was built from.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

const HEAD: &str =
    "# Written by `cargo xtask ebpf build`; `cargo xtask ebpf check` compares it.\n\n";

/// What built the object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// SHA-256 of the object.
    pub(crate) object: String,
    /// SHA-256 over its sources.
    pub(crate) sources: String,
    /// The programs that built it.
    pub(crate) tools: Tools,
}

/// Everything that decides, beside the sources, which bytes come out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Tools {
    /// The first line of `rustc -vV`.
    pub(crate) rustc: String,
    /// The LLVM inside that compiler.
    pub(crate) rustc_llvm: String,
    /// The version of bpf-linker.
    pub(crate) bpf_linker: String,
    /// The LLVM that bpf-linker loads.
    pub(crate) bpf_linker_llvm: String,
    /// The version of aya-ebpf.
    pub(crate) aya_ebpf: String,
}

/// Something in which the checked-in object and its manifest are not what the sources say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stale {
    /// The object is not the one the manifest speaks of.
    Object,
    /// The sources have changed since.
    Sources,
}

impl Manifest {
    /// Reads the manifest at `path`.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let name = path.display();
        let text = fs::read_to_string(path)
            .with_context(|| format!("{name}; `cargo xtask ebpf build` writes it"))?;
        toml::from_str(&text).with_context(|| name.to_string())
    }

    /// Writes the manifest to `path`.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let text = format!("{HEAD}{}", toml::to_string(self)?);
        fs::write(path, text).with_context(|| path.display().to_string())
    }

    /// What is stale, given the digests of the object and of the sources as they are now.
    pub(crate) fn stale(&self, object: &str, sources: &str) -> Vec<Stale> {
        let object = (self.object != object).then_some(Stale::Object);
        let sources = (self.sources != sources).then_some(Stale::Sources);
        object.into_iter().chain(sources).collect()
    }
}

impl Tools {
    /// The tools whose versions differ, each with this version and the other's.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let rows = [
            ("rustc", &self.rustc, &other.rustc),
            ("rustc's LLVM", &self.rustc_llvm, &other.rustc_llvm),
            ("bpf-linker", &self.bpf_linker, &other.bpf_linker),
            (
                "bpf-linker's LLVM",
                &self.bpf_linker_llvm,
                &other.bpf_linker_llvm,
            ),
            ("aya-ebpf", &self.aya_ebpf, &other.aya_ebpf),
        ];
        let differing = rows.into_iter().filter(|(_, ours, theirs)| ours != theirs);
        differing
            .map(|(tool, ours, theirs)| format!("{tool}: {ours}, not {theirs}"))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Manifest {
        Manifest {
            object: "11".to_owned(),
            sources: "22".to_owned(),
            tools: Tools {
                rustc: "rustc 1.96.0".to_owned(),
                rustc_llvm: "22.1.8".to_owned(),
                bpf_linker: "0.10.3".to_owned(),
                bpf_linker_llvm: "22.1.2".to_owned(),
                aya_ebpf: "0.2.1".to_owned(),
            },
        }
    }

    #[test]
    fn written_and_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("manifest.toml");
        example().write(&path).unwrap();
        assert_eq!(Manifest::read(&path).unwrap(), example());
    }

    #[test]
    fn stale_parts_are_named() {
        assert_eq!(example().stale("11", "22"), []);
        assert_eq!(example().stale("11", "33"), [Stale::Sources]);
        assert_eq!(example().stale("00", "33"), [Stale::Object, Stale::Sources]);
    }

    #[test]
    fn only_differing_tools_are_named() {
        let mut other = example().tools;
        assert!(example().tools.differences(&other).is_empty());
        other.bpf_linker = "0.11.0".to_owned();
        let differences = other.differences(&example().tools);
        assert_eq!(differences, ["bpf-linker: 0.11.0, not 0.10.3"]);
    }
}
