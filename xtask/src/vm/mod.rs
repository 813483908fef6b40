//! `cargo xtask vm`: the integration tests on other kernels.
//!
//! Debian's kernels boot in qemu on the file system of this machine, which they see read-only below an overlay in
//! memory: no image is built, and what the tests run is what is installed and built here. The processor is emulated,
//! so nothing that is measured in time is judged there: deadlines are longer (`HOTLB_TEST_PATIENCE`).

mod doctor;
pub(crate) mod guest;
mod initramfs;
mod machine;
mod needs;
mod package;
mod plan;
mod programs;
mod staged;
mod table;

use std::fs;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use self::{
    machine::{Accelerator, Machine},
    package::Kernel,
    plan::Plan,
    table::Outcome,
};
use crate::{ebpf::verifier, project::Project, setup};

/// The arguments of `cargo xtask vm`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// A version of a kernel Debian has, such as 6.1; may be repeated
    #[arg(long = "kernel", value_name = "VERSION", default_values = ["6.1", "6.12"])]
    kernels: Vec<String>,
    #[command(flatten)]
    tests: programs::Choice,
    /// Test what is built without optimisation: faster to build, slower to run
    #[arg(long)]
    debug: bool,
    /// How many times as long deadlines of the tests are
    #[arg(long, value_name = "FACTOR", default_value_t = 8)]
    patience: u32,
    /// Stop a module that takes longer than this
    #[arg(long, value_name = "MINUTES", default_value_t = 20)]
    deadline: u32,
    /// Write what the verifier spends on the programs into docs/develop/verifier.md
    #[arg(long)]
    write_verifier: bool,
    /// kvm is faster where it works
    #[arg(long, default_value = "tcg")]
    accel: Accelerator,
}

/// Boots each kernel, runs the tests in it, prints the tables; fails when a test does.
pub(crate) fn run(arguments: &Arguments, project: &Project) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("the machine reads all files of this one and the tests need root: run it as root");
    }
    setup::for_machines()?;
    let target = project.metadata()?.target_directory;
    let built = programs::build_all(project, &target, arguments.debug)?;
    let tests = programs::build(project, &arguments.tests, arguments.debug)?;
    let staged = staged::Staged::new(&built, &target.join("vm/programs"))?;
    let plan = Plan {
        xtask: staged.this_program()?,
        hotlb: staged.path(programs::HOTLB),
        verifier: staged.path(verifier::PROGRAM),
        tests: tests.map(|tests| staged.tests(tests)).transpose()?,
        patience: arguments.patience,
        deadline_minutes: arguments.deadline,
    };
    let mut outcomes = Vec::new();
    for version in &arguments.kernels {
        outcomes.push(on(version, &plan, arguments, project)?);
    }
    table::show(&outcomes);
    let failed: usize = outcomes.iter().map(Outcome::failed).sum();
    if failed > 0 {
        bail!("{failed} failed");
    }
    Ok(())
}

/// How often a machine is begun whose emulation went wrong.
const ATTEMPTS: u32 = 3;

/// Everything in one kernel.
fn on(version: &str, plan: &Plan, arguments: &Arguments, project: &Project) -> Result<Outcome> {
    let places = project.metadata()?.target_directory.join("vm");
    let kernel = Kernel::get(version, &places).with_context(|| format!("kernel {version}"))?;
    let initramfs = initramfs::build(&kernel, project, &plan.xtask)?;
    println!(
        "\n== {} ({} modules of tests)",
        kernel.release,
        plan.modules().len()
    );
    let mut left = ATTEMPTS;
    let (machine, run) = loop {
        left -= 1;
        let machine = Machine::new(&kernel, &initramfs, arguments.accel)?;
        plan.write(machine.shared())?;
        let run = machine.run()?;
        if left == 0 || arguments.accel != Accelerator::Tcg || !run.met_a_stale_breakpoint()? {
            break (machine, run);
        }
        println!("  the emulation ran a breakpoint that the kernel had taken back: once more");
    };
    let mut outcome = Outcome::read(&kernel, machine.shared(), plan, &run)?;
    let answer = fs::read_to_string(machine.shared().join(guest::VERIFIER)).unwrap_or_default();
    let write = arguments.write_verifier;
    if let Err(error) = verifier::judge(project, &kernel.release, &answer, write) {
        outcome.trouble(format!("{error:#}"));
    }
    Ok(outcome)
}
