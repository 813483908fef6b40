//! `cargo xtask VERB`: everything a developer or the CI runs on hotlb, each verb in its own file.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool"
)]

mod bench;
mod check_times;
mod ci;
mod command;
mod demo;
mod docs;
mod ebpf;
mod fuzz;
mod lint;
mod project;
mod robust;
mod search_path;
mod setup;
mod test;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::project::Project;

/// The tasks of the hotlb project.
#[derive(Debug, Parser)]
#[command(name = "xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

/// One row a verb; its arguments and its code stand in the module of its name.
#[derive(Debug, Subcommand)]
enum Verb {
    /// Find or install what the project needs
    Setup(setup::Arguments),
    /// Build the kernel programs, or check the object that is checked in
    Ebpf(ebpf::Arguments),
    /// Check format, lints, documentation and the project's own rules
    Lint,
    /// Run the unit tests and the integration tests
    Test(test::Arguments),
    /// Show the whole story on real servers, with its figures
    Demo,
    /// Build the man pages, and the documentation as a book
    Docs(docs::Arguments),
    /// Measure what hotlb costs and what it gives; all of it writes docs/develop/benchmarks.md
    Bench(bench::Arguments),
    /// Measure how long `cargo check` takes after a change
    CheckTimes,
    /// Mix rollouts, kills of every process and load at random, and check what must hold
    Soak(robust::SoakArguments),
    /// Have libFuzzer look for bytes that break what reads what others wrote
    Fuzz(fuzz::FuzzArguments),
    /// Interpret the tests of what the kernel programs share
    Miri,
    /// Run the integration tests on other kernels, in virtual machines
    Vm(vm::Arguments),
    /// What runs inside such a machine
    #[command(hide = true)]
    VmGuest(vm::guest::Arguments),
    /// Run everything that must hold before a change goes in: lint, ebpf check, test
    Ci,
}

impl Verb {
    fn run(self, project: &Project) -> Result<()> {
        match self {
            Self::Setup(arguments) => setup::run(&arguments),
            Self::Ebpf(arguments) => ebpf::run(&arguments, project),
            Self::Lint => lint::run(project),
            Self::Test(arguments) => test::run(&arguments, project),
            Self::Demo => demo::demo(project),
            Self::Docs(arguments) => docs::run(&arguments, project),
            Self::Bench(arguments) => bench::run(&arguments, project),
            Self::CheckTimes => check_times::run(project),
            Self::Soak(arguments) => robust::soak(&arguments, project),
            Self::Fuzz(arguments) => fuzz::fuzz(&arguments, project),
            Self::Miri => robust::miri(project),
            Self::Vm(arguments) => vm::run(&arguments, project),
            Self::VmGuest(arguments) => vm::guest::run(&arguments),
            Self::Ci => ci::run(project),
        }
    }
}

fn main() -> ExitCode {
    if let Some(as_compiler) = ebpf::compiler::called_by_cargo() {
        return as_compiler;
    }
    let outcome = Project::find().and_then(|project| Arguments::parse().verb.run(&project));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
