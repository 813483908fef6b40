//! `cargo xtask demo` and `cargo xtask bench`: programs of the tests package, which has the
//! namespaces, servers and clients they need.

use anyhow::{Result, bail};
use clap::Args;

use crate::{command, project::Project, setup, test::PACKAGES};

/// The arguments of `cargo xtask bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchArguments {
    /// Fewer rounds
    #[arg(long)]
    quick: bool,
    /// Only this part, such as steer, throughput or upgrades; another word lists them
    part: Option<String>,
}

/// The whole story on real servers.
pub(crate) fn demo(project: &Project) -> Result<()> {
    run(project, "demo", &[])
}

/// What hotlb costs and gives, measured.
pub(crate) fn bench(arguments: &BenchArguments, project: &Project) -> Result<()> {
    let quick = arguments.quick.then_some("--quick");
    let words: Vec<&str> = quick.into_iter().chain(arguments.part.as_deref()).collect();
    run(project, "bench", &words)
}

/// Builds and runs a program of the tests package.
pub(crate) fn run(project: &Project, program: &str, arguments: &[&str]) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("`{program}` makes network namespaces and loads kernel programs: it needs root");
    }
    setup::for_tests()?;
    command::run(project.cargo().args(["build", "--release"]).args(PACKAGES))?;
    let release = project.metadata()?.target_directory.join("release");
    let mut built = std::process::Command::new(release.join(program));
    command::run(
        built
            .args(arguments)
            .env("HOTLB_BIN", release.join("hotlb")),
    )
}
