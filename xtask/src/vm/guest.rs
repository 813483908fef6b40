//! What runs in the machine: `hotlb doctor`, then the modules of tests, one after the other, each in a process of its own.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result};
use clap::Args;
use rustix::process::{Resource, Rlimit, setrlimit};

use super::{
    doctor, needs,
    plan::{self, Module, Plan, Program, Row},
};

/// The file with what the verifier spends on the programs.
pub(super) const VERIFIER: &str = "verifier.tsv";
/// Files that a process in the machine may have open, as on Debian (the hard limit there).
const FILES: u64 = 1 << 19;
/// Killed so long after it was told to end.
const KILL_AFTER: &str = "--kill-after=30s";
/// What `timeout` ends with when it had to end the program.
const OVER: [i32; 2] = [124, 137];
/// What a kernel's message holds when something is wrong with the kernel.
const WRONG: [&str; 6] = [
    "BUG:",
    "WARNING:",
    "Oops",
    "blocked for more than",
    "rcu_sched detected",
    "Call Trace",
];

/// The arguments of `cargo xtask vm-guest`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Where the plan is
    shared: PathBuf,
}

/// Does what the plan says and reports it.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let shared = &arguments.shared;
    let plan = Plan::read(shared)?;
    // The first process of a machine may open 1,024 only.
    let files = Rlimit {
        current: Some(FILES),
        maximum: Some(FILES),
    };
    setrlimit(Resource::Nofile, files).context("raise the limit of open files")?;
    let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers")?;
    plan::report(
        shared,
        &Row::Machine {
            controllers: controllers.trim().to_owned(),
        },
    )?;
    println!("vm: booted; asking hotlb doctor");
    let findings = doctor::ask(&plan.hotlb, shared)?;
    // A program that was refused is in the doctor's answer; without a line it counts as trouble.
    Command::new(&plan.verifier)
        .stdout(File::create(shared.join(VERIFIER))?)
        .status()
        .with_context(|| format!("start {}", plan.verifier.display()))?;
    if let Some(program) = &plan.tests {
        for module in &program.modules {
            println!("vm: {}", module.name);
            let row = match needs::lacking(&module.name, &findings) {
                Some(why) => Row::Degraded {
                    name: module.name.clone(),
                    why,
                },
                None => test(module, program, &plan, shared)?,
            };
            plan::report(shared, &row)?;
        }
    }
    let warnings = warnings()?;
    plan::report(shared, &Row::Done { warnings })
}

/// Runs one module to its end.
fn test(module: &Module, program: &Program, plan: &Plan, shared: &Path) -> Result<Row> {
    // With the host it can be looked at while it grows.
    let output = shared.join(format!("{}.log", module.name));
    let skips = "/run/vm/report";
    File::create(skips)?;
    let began = Instant::now();
    let file = File::create(&output)?;
    let status = Command::new("timeout")
        .args([KILL_AFTER, &format!("{}m", plan.deadline_minutes)])
        .arg(&program.path)
        .args(["--test-threads=1", "--exact"])
        .args(&module.tests)
        .current_dir(&program.directory)
        .env("HOTLB_BIN", &plan.hotlb)
        .env("HOTLB_TEST_PATIENCE", plan.patience.to_string())
        .env("HOTLB_TEST_REPORT", skips)
        .env("CARGO_MANIFEST_DIR", &program.directory)
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .status()
        .with_context(|| format!("start {}", program.path.display()))?;
    let report = read(skips)?;
    let skips = report
        .lines()
        .filter_map(|line| line.strip_prefix("skip\t"));
    Ok(Row::Module {
        name: module.name.clone(),
        output: read(output)?,
        ended: status.code().is_some_and(|code| !OVER.contains(&code)),
        skips: skips.map(|skip| skip.replace('\t', ": ")).collect(),
        seconds: began.elapsed().as_secs(),
    })
}

fn read(file: impl AsRef<Path>) -> Result<String> {
    Ok(String::from_utf8_lossy(&fs::read(file)?).into_owned())
}

/// What the kernel complained about.
fn warnings() -> Result<Vec<String>> {
    let messages = Command::new("dmesg").output().context("start dmesg")?;
    let messages = String::from_utf8_lossy(&messages.stdout).into_owned();
    let wrong = |line: &&str| WRONG.iter().any(|word| line.contains(word));
    Ok(messages.lines().filter(wrong).map(str::to_owned).collect())
}
