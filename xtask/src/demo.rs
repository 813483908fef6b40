//! `cargo xtask demo`, and how programs of the tests package are run, which has the namespaces, servers and clients
//! they need.

use std::process::Command;

use anyhow::{Result, bail};

use crate::{command, project::Project, setup, test::PACKAGES};

/// The whole story on real servers.
pub(crate) fn demo(project: &Project) -> Result<()> {
    run(project, "demo", &[])
}

/// Builds and runs a program of the tests package.
pub(crate) fn run(project: &Project, program: &str, arguments: &[&str]) -> Result<()> {
    command::run(built(project, program)?.args(arguments))
}

/// Builds a program of the tests package, and hotlb for it.
pub(crate) fn built(project: &Project, program: &str) -> Result<Command> {
    if !rustix::process::geteuid().is_root() {
        bail!("`{program}` makes network namespaces and loads kernel programs: it needs root");
    }
    setup::for_tests()?;
    command::run(project.cargo().args(["build", "--release"]).args(PACKAGES))?;
    let release = project.metadata()?.target_directory.join("release");
    let mut built = Command::new(release.join(program));
    built.env("HOTLB_BIN", release.join("hotlb"));
    Ok(built)
}
