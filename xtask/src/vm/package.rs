//! Debian's packages with kernels: found by version, downloaded and unpacked once.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::command;

/// A kernel and its modules, unpacked.
#[derive(Debug)]
pub(super) struct Kernel {
    /// What `uname -r` says in it.
    pub(super) release: String,
    /// The package's version.
    pub(super) version: String,
    /// Where its package is unpacked.
    root: PathBuf,
}

impl Kernel {
    /// The newest kernel of `version` (such as 6.1) Debian has here, unpacked below `places`.
    pub(super) fn get(version: &str, places: &Path) -> Result<Self> {
        let listed = command::capture(Command::new("apt-cache").args([
            "search",
            "--names-only",
            "^linux-image-[0-9.]+.*-amd64$",
        ]))?;
        let release = newest(&listed, version)
            .with_context(|| format!("no package linux-image-{version}*-amd64: apt-get update?"))?;
        let root = places.join(&release);
        let package = format!("linux-image-{release}");
        if !is_there(&root, &release) {
            download(&package, &root)?;
        }
        let shown = Command::new("apt-cache")
            .args(["show", "--no-all-versions", &package])
            .output()?;
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        let version = shown
            .lines()
            .find_map(|line| line.strip_prefix("Version: "));
        Ok(Self {
            version: version.unwrap_or("unknown").to_owned(),
            release,
            root,
        })
    }

    /// The bootable image.
    pub(super) fn image(&self) -> PathBuf {
        self.root.join(format!("boot/vmlinuz-{}", self.release))
    }

    /// The directory that holds `lib/modules`.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of the modules, with `modules.dep`.
    pub(super) fn modules(&self) -> PathBuf {
        self.root.join("lib/modules").join(&self.release)
    }
}

fn is_there(root: &Path, release: &str) -> bool {
    root.join("lib/modules")
        .join(release)
        .join("modules.dep")
        .is_file()
}

/// `modules.dep` comes last: what was begun and not ended is begun again.
fn download(package: &str, root: &Path) -> Result<()> {
    fs::create_dir_all(root)?;
    command::run(
        Command::new("apt-get")
            .args(["--quiet", "--quiet", "download", package])
            .current_dir(root),
    )?;
    let archive = fs::read_dir(root)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|ending| ending == "deb"))
        .context("apt-get download left no package")?;
    command::run(Command::new("dpkg").arg("-x").arg(&archive).arg(root))?;
    fs::remove_file(archive)?;
    let release = package.trim_start_matches("linux-image-");
    let depmod = ["depmod", "-b", &root.display().to_string(), release].map(str::to_owned);
    command::run(Command::new("busybox").args(depmod))?;
    if !is_there(root, release) {
        bail!("{package} has no modules for {release}");
    }
    Ok(())
}

/// The release of the newest package of `version` in what `apt-cache search` lists: neither a meta-package nor one
/// for clouds (without 9p) or for real time.
fn newest(listed: &str, version: &str) -> Option<String> {
    let names = listed.lines().filter_map(|line| line.split(' ').next());
    let releases = names.filter_map(|name| name.strip_prefix("linux-image-"));
    let fitting = releases.filter(|release| {
        let rest = release
            .strip_prefix(version)
            .and_then(|rest| rest.strip_prefix('.'));
        let is_special = ["-cloud-", "-rt-"]
            .iter()
            .any(|kind| release.contains(kind));
        rest.is_some() && !is_special
    });
    fitting
        .max_by_key(|release| numbers(release))
        .map(str::to_owned)
}

/// The numbers in a release, by which releases are sorted.
fn numbers(release: &str) -> Vec<u32> {
    let parts = release.split(|c: char| !c.is_ascii_digit());
    parts.filter_map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &str = "\
linux-image-6.1.0-9-amd64 - Linux 6.1 for 64-bit PCs (signed)
linux-image-6.1.0-56-amd64 - Linux 6.1 for 64-bit PCs (signed)
linux-image-6.1.0-57-cloud-amd64 - Linux 6.1 for x86-64 cloud (signed)
linux-image-6.1.0-57-rt-amd64 - Linux 6.1 for 64-bit PCs, PREEMPT_RT (signed)
linux-image-6.12-amd64 - Linux for 64-bit PCs (meta-package)
linux-image-6.12.101+deb12-amd64 - Linux 6.12 for 64-bit PCs (signed)
linux-image-6.12.99+deb12-amd64 - Linux 6.12 for 64-bit PCs (signed)";

    #[test]
    fn the_newest_is_found_by_its_numbers() {
        assert_eq!(newest(LISTED, "6.1").as_deref(), Some("6.1.0-56-amd64"));
        let found = newest(LISTED, "6.12");
        assert_eq!(found.as_deref(), Some("6.12.101+deb12-amd64"));
        assert_eq!(newest(LISTED, "5.15"), None);
    }
}
