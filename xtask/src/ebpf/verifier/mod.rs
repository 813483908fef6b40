//! `cargo xtask ebpf verifier`: what the verifier of this kernel spends on each program, beside what is written down in
//! `docs/develop/verifier.md` for kernels of this series; fails when it is a tenth more.

mod document;

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use self::document::{Cost, Document};
use crate::{command, project::Project, test::PACKAGES};

/// The document, below the top directory.
const DOCUMENT: &str = "docs/develop/verifier.md";
/// The program of the tests package that asks the kernel.
pub(crate) const PROGRAM: &str = "verifier";

/// The arguments of `cargo xtask ebpf verifier`.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct Arguments {
    /// Write what was found into docs/develop/verifier.md
    #[arg(long)]
    write: bool,
    /// Build without optimisation what asks the kernel; the kernel's answer is the same
    #[arg(long)]
    debug: bool,
}

/// Asks this kernel, compares or writes.
pub(crate) fn run(arguments: Arguments, project: &Project) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("only root may load kernel programs, and only then does the verifier look at them");
    }
    let mut cargo = project.cargo();
    cargo.args(["build", "--bin", PROGRAM]).args(PACKAGES);
    command::run(cargo.args((!arguments.debug).then_some("--release")))?;
    let profile = if arguments.debug { "debug" } else { "release" };
    let target = project.metadata()?.target_directory;
    let answer = command::capture(&mut Command::new(target.join(profile).join(PROGRAM)))?;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    judge(project, &release, &answer, arguments.write)
}

/// Compares what a kernel of this release answered with the document, or writes it there.
pub(crate) fn judge(project: &Project, release: &str, answer: &str, write: bool) -> Result<()> {
    let series = series(release).with_context(|| format!("{release} is no version"))?;
    let costs = document::parse_answer(answer)?;
    let file = project.path(DOCUMENT);
    let mut document = Document::read(&file)?;
    for (program, cost) in &costs {
        println!("ebpf: {series}: {program}: {}", cost.words());
    }
    if write {
        document.put(&series, &costs);
        return document.write(&file);
    }
    verdict(&document, &series, &costs, &file)
}

fn verdict(document: &Document, series: &str, costs: &[(String, Cost)], file: &Path) -> Result<()> {
    let Some(growth) = document.growth(series, costs) else {
        println!(
            "ebpf: {} has nothing about {series}: not compared; `cargo xtask ebpf verifier --write` adds it",
            file.display()
        );
        return Ok(());
    };
    if growth.is_empty() {
        println!("ebpf: nothing costs the verifier of {series} a tenth more than written down");
        return Ok(());
    }
    bail!(
        "the verifier of {series} has more to do than {DOCUMENT} says: {}; make the programs simpler, or accept it \
         with --write",
        growth.join("; ")
    )
}

/// `6.12` of `6.12.117+deb12-amd64`.
fn series(release: &str) -> Option<String> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    let (major, minor) = (parts.next()?, parts.next()?);
    let is_number = |part: &str| part.parse::<u32>().is_ok();
    (is_number(major) && is_number(minor)).then(|| format!("{major}.{minor}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_the_first_two_numbers() {
        assert_eq!(series("6.12.117+deb12-amd64").as_deref(), Some("6.12"));
        assert_eq!(series("6.1.0-56-amd64").as_deref(), Some("6.1"));
        assert_eq!(series("next"), None);
    }
}
