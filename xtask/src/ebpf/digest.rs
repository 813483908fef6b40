//! Fingerprints: of the object, and of everything it is built from.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

/// Files and directories that decide what is in the object, below the top directory.
const SOURCES: [&str; 6] = [
    "lb-common/Cargo.toml",
    "lb-common/src",
    "lb-ebpf/.cargo/config.toml",
    "lb-ebpf/Cargo.lock",
    "lb-ebpf/Cargo.toml",
    "lb-ebpf/src",
];

/// SHA-256 of `bytes`, in lower-case hexadecimal.
pub(crate) fn of_bytes(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// SHA-256 over all sources of the object of the project at `root`: their names and contents.
pub(crate) fn of_sources(root: &Path) -> Result<String> {
    let mut files = Vec::new();
    for source in SOURCES {
        collect(root, Path::new(source), &mut files)?;
    }
    files.sort();
    of_files(root, &files)
}

/// Lengths are hashed too, so that no two different trees give the same bytes.
fn of_files(root: &Path, files: &[PathBuf]) -> Result<String> {
    let mut hash = Sha256::new();
    for file in files {
        let content = fs::read(root.join(file)).with_context(|| file.display().to_string())?;
        for part in [file.as_os_str().as_encoded_bytes(), &content] {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
    }
    Ok(format!("{:x}", hash.finalize()))
}

fn collect(root: &Path, path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let absolute = root.join(path);
    if absolute.is_file() {
        files.push(path.to_owned());
        return Ok(());
    }
    let entries = fs::read_dir(&absolute).with_context(|| path.display().to_string())?;
    for entry in entries {
        collect(root, &path.join(entry?.file_name()), files)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Vec<PathBuf>) {
        let root = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(root.path().join(name), content).unwrap();
        }
        let mut found = Vec::new();
        collect(root.path(), Path::new(""), &mut found).unwrap();
        found.sort();
        (root, found)
    }

    #[test]
    fn known_digest() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(of_bytes(b""), empty);
    }

    #[test]
    fn moving_text_between_name_and_content_changes_the_digest() {
        let (first, files) = tree(&[("ab", "c")]);
        let (second, others) = tree(&[("a", "bc")]);
        let first = of_files(first.path(), &files).unwrap();
        assert_ne!(first, of_files(second.path(), &others).unwrap());
    }

    #[test]
    fn the_place_of_the_tree_does_not_matter() {
        let (first, files) = tree(&[("a", "1"), ("b", "2")]);
        let (second, others) = tree(&[("b", "2"), ("a", "1")]);
        let first = of_files(first.path(), &files).unwrap();
        assert_eq!(first, of_files(second.path(), &others).unwrap());
    }
}
