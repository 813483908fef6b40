//! `cargo xtask fuzz`: libFuzzer on everything that reads what others wrote.
//!
//! `cargo fuzz` does the same, and wants a toolchain of its own for the sanitizers. All that is read here is read without
//! unsafe code, so that panics are what there is to find, and the stable compiler's counters are enough.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, ensure};
use clap::Args;

use crate::{command, project::Project};

/// The arguments of `cargo xtask fuzz`.
#[derive(Debug, Args)]
pub(crate) struct FuzzArguments {
    /// How long for each target
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Only this one, such as `config`
    target: Option<String>,
}

/// What libFuzzer asks of each crate: counted branches, and the numbers that are compared.
const COVERAGE: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "-Cdebug-assertions",
];
/// Longer inputs take longer and find little more.
const LONGEST: usize = 4096;
/// Milliseconds are enough for any input; so many seconds are a hang.
const HANG: u64 = 5;

/// Runs libFuzzer on each target, or the one named. What was found interesting is kept in the build directory and is where
/// the next run begins.
pub(crate) fn fuzz(arguments: &FuzzArguments, project: &Project) -> Result<()> {
    let directory = project.metadata()?.target_directory.join("fuzz");
    let program = build(project, &directory)?;
    let all = command::capture(Command::new(&program).arg("-runs=0"))?;
    let wanted = |name: &&str| arguments.target.as_deref().is_none_or(|one| one == *name);
    let names: Vec<_> = all.lines().filter(wanted).collect();
    ensure!(
        !names.is_empty(),
        "there is no such target; there are {}",
        all.replace('\n', " ")
    );
    for name in names {
        println!("== {name}");
        run(&program, &directory, name, arguments.seconds)?;
    }
    Ok(())
}

fn build(project: &Project, directory: &Path) -> Result<PathBuf> {
    // Said, so that the flags are not for build scripts and macros too.
    let host = command::capture(Command::new("rustc").args(["--print", "host-tuple"]))?;
    let mut cargo = project.cargo();
    cargo.args([
        "build",
        "--release",
        "--package",
        "hotlb-tests",
        "--bin",
        "fuzz",
    ]);
    cargo.args(["--features", "libfuzzer", "--target", &host]);
    cargo.arg("--target-dir").arg(directory);
    cargo.env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\u{1f}"));
    command::run(&mut cargo)?;
    Ok(directory.join(host).join("release").join("fuzz"))
}

fn run(program: &Path, directory: &Path, name: &str, seconds: u64) -> Result<()> {
    let corpus = directory.join("corpus").join(name);
    let found = directory.join("found").join(name);
    fs::create_dir_all(&corpus)?;
    fs::create_dir_all(&found)?;
    let mut fuzz = Command::new(program);
    fuzz.env("HOTLB_FUZZ_TARGET", name);
    fuzz.env("HOTLB_FUZZ_SEEDS", &corpus);
    fuzz.arg(format!("-max_total_time={seconds}"));
    fuzz.arg(format!("-max_len={LONGEST}"));
    fuzz.arg(format!("-timeout={HANG}"));
    fuzz.arg(format!("-artifact_prefix={}/", found.display()));
    fuzz.args(["-print_final_stats=1", "-verbosity=1"]);
    command::run(fuzz.arg(&corpus))
}
