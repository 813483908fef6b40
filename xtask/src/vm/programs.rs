//! The programs that run in the machine, built here.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde::Deserialize;

use super::plan::Program;
use crate::{command, project::Project, test::PACKAGES};

/// The binary under test.
pub(super) const HOTLB: &str = "hotlb";

/// What runs unless told otherwise: each feature of the kernel is in one of them.
const SHORT: [&str; 9] = [
    "steering", "upgrades", "crash", "drain", "polite", "losses", "latency", "profile", "usage",
];

/// Which test programs run in a machine.
#[derive(Debug, Args)]
pub(super) struct Choice {
    /// The files in tests/tests to run, without their ending; a short list without it
    #[arg(long, value_name = "NAME", num_args = 1.., conflicts_with = "all")]
    tests: Vec<String>,
    /// Run all integration tests: this takes hours
    #[arg(long)]
    all: bool,
    /// Run no tests, only `hotlb doctor` and the verifier
    #[arg(long, conflicts_with_all = ["tests", "all"])]
    doctor: bool,
}

/// A message of cargo about something it built.
#[derive(Debug, Deserialize)]
struct Message {
    executable: Option<PathBuf>,
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// Builds hotlb and what the tests start; gives their directory.
pub(super) fn build_all(project: &Project, target: &Path, debug: bool) -> Result<PathBuf> {
    let mut cargo = project.cargo();
    cargo.args(["build", "--bins"]).args(PACKAGES);
    command::run(cargo.args(profile(debug)))?;
    Ok(target.join(if debug { "debug" } else { "release" }))
}

/// Builds the test programs that were asked for.
pub(super) fn build(project: &Project, choice: &Choice, debug: bool) -> Result<Vec<Program>> {
    if choice.doctor {
        return Ok(Vec::new());
    }
    let short: Vec<String> = SHORT.map(str::to_owned).to_vec();
    let all = ["*".to_owned()];
    let wanted: &[String] = match (choice.all, choice.tests.is_empty()) {
        (true, _) => &all,
        (false, true) => &short,
        (false, false) => &choice.tests,
    };
    let mut cargo = project.cargo();
    cargo
        .args(["test", "--no-run", "--message-format=json"])
        .args(wanted.iter().flat_map(|name| ["--test", name]))
        .args(PACKAGES)
        .args(profile(debug));
    let built = parse(&capture(&mut cargo)?);
    if choice.all {
        return Ok(built);
    }
    let find = |name: &String| {
        let found = built.iter().find(|program| program.name == *name);
        found
            .cloned()
            .with_context(|| format!("there is no tests/tests/{name}.rs"))
    };
    wanted.iter().map(find).collect()
}

fn profile(debug: bool) -> Option<&'static str> {
    (!debug).then_some("--release")
}

/// Cargo's messages; its progress is shown.
fn capture(cargo: &mut Command) -> Result<String> {
    let output = cargo.stderr(std::process::Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("the tests could not be built: {}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The test programs in cargo's messages, by name. Lines that are no messages are none.
fn parse(messages: &str) -> Vec<Program> {
    let messages = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok());
    let mut programs: Vec<_> = messages.filter_map(program).collect();
    programs.sort_by(|one, other| one.name.cmp(&other.name));
    programs
}

fn program(message: Message) -> Option<Program> {
    let target = message.target?;
    let is_test = target.kind.iter().any(|kind| kind == "test");
    Some(Program {
        name: target.name,
        path: message.executable.filter(|_| is_test)?,
        directory: message.manifest_path?.parent()?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_programs_are_found_among_the_messages() {
        let messages = r#"{"reason":"compiler-artifact","manifest_path":"/p/tests/Cargo.toml","target":{"kind":["test"],"name":"upgrades"},"executable":"/t/upgrades-1"}
{"reason":"compiler-artifact","manifest_path":"/p/tests/Cargo.toml","target":{"kind":["bin"],"name":"bench"},"executable":"/t/bench"}
{"reason":"compiler-artifact","manifest_path":"/p/tests/Cargo.toml","target":{"kind":["lib"],"name":"x"},"executable":null}
{"reason":"build-finished","success":true}
nonsense"#;
        let found = parse(messages);
        assert_eq!(found.len(), 1);
        assert_eq!(found.first().unwrap().name, "upgrades");
        assert_eq!(found.first().unwrap().directory, Path::new("/p/tests"));
    }
}
