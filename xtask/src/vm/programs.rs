//! The programs that run in the machine, built here.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use serde::Deserialize;

use super::plan::{Module, Program};
use crate::{command, project::Project, test::PACKAGES};

/// The program with all integration tests.
const TESTS: &str = "it";
/// The binary under test.
pub(super) const HOTLB: &str = "hotlb";

/// What runs unless told otherwise: each feature of the kernel is in one of them.
const SHORT: [&str; 9] = [
    "steering", "upgrades", "crash", "drain", "polite", "losses", "latency", "profile", "usage",
];

/// Which tests run in a machine.
#[derive(Debug, Args)]
pub(super) struct Choice {
    /// The modules of tests/tests/it to run; a short list without it
    #[arg(long, value_name = "NAME", num_args = 1.., conflicts_with = "all")]
    tests: Vec<String>,
    /// Run all integration tests: this takes hours
    #[arg(long)]
    all: bool,
    /// Run no tests, only `hotlb doctor` and the verifier
    #[arg(long, conflicts_with_all = ["tests", "all"])]
    doctor: bool,
    /// Only tests whose name contains this
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
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

/// Builds the integration tests and says which of them were asked for, if any.
pub(super) fn build(project: &Project, choice: &Choice, debug: bool) -> Result<Option<Program>> {
    if choice.doctor {
        return Ok(None);
    }
    let mut cargo = project.cargo();
    cargo
        .args(["test", "--no-run", "--message-format=json"])
        .args(["--test", TESTS])
        .args(PACKAGES)
        .args(profile(debug));
    let (path, directory) = parse(&capture(&mut cargo)?).context("cargo built no tests")?;
    let mut list = Command::new(&path);
    let listed = command::capture(list.args(["--list", "--format=terse"]))?;
    let modules = choice.of(modules(&listed))?;
    Ok(Some(Program {
        path,
        directory,
        modules,
    }))
}

impl Choice {
    /// Those of `all` that were asked for, each with the tests that were.
    fn of(&self, all: Vec<Module>) -> Result<Vec<Module>> {
        let short: Vec<String> = SHORT.map(str::to_owned).to_vec();
        let find = |name: &String| {
            let found = all.iter().find(|module| module.name == *name);
            found
                .cloned()
                .with_context(|| format!("there is no tests/tests/it/{name}.rs with tests"))
        };
        let mut chosen: Vec<Module> = match (self.all, self.tests.is_empty()) {
            (true, _) => all,
            (false, true) => short.iter().map(find).collect::<Result<_>>()?,
            (false, false) => self.tests.iter().map(find).collect::<Result<_>>()?,
        };
        for module in &mut chosen {
            module.tests.retain(|test| {
                let within = test.split_once("::");
                within.is_some_and(|(_, name)| name.contains(&self.filter))
            });
        }
        chosen.retain(|module| !module.tests.is_empty());
        ensure!(
            !chosen.is_empty(),
            "no test has {:?} in its name",
            self.filter
        );
        Ok(chosen)
    }
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

/// The test program in cargo's messages and the directory of its package. Lines that are no messages are none.
fn parse(messages: &str) -> Option<(PathBuf, PathBuf)> {
    let mut messages = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok());
    messages.find_map(|message| {
        let target = message.target?;
        let is_test = target.name == TESTS && target.kind.iter().any(|kind| kind == "test");
        let path = message.executable.filter(|_| is_test)?;
        Some((path, message.manifest_path?.parent()?.to_owned()))
    })
}

/// The modules with tests, in the order of libtest's terse list: lines of `module::name: test`.
fn modules(listed: &str) -> Vec<Module> {
    let mut modules: Vec<Module> = Vec::new();
    let tests = listed
        .lines()
        .filter_map(|line| line.strip_suffix(": test"));
    for test in tests {
        let name = test.split("::").next().unwrap_or_default();
        match modules.last_mut().filter(|module| module.name == name) {
            Some(module) => module.tests.push(test.to_owned()),
            None => modules.push(Module {
                name: name.to_owned(),
                tests: vec![test.to_owned()],
            }),
        }
    }
    modules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_program_is_found_among_the_messages() {
        let messages = r#"{"reason":"compiler-artifact","manifest_path":"/p/common/Cargo.toml","target":{"kind":["test"],"name":"properties"},"executable":"/t/properties-1"}
{"reason":"compiler-artifact","manifest_path":"/p/tests/Cargo.toml","target":{"kind":["test"],"name":"it"},"executable":"/t/it-1"}
{"reason":"compiler-artifact","manifest_path":"/p/tests/Cargo.toml","target":{"kind":["bin"],"name":"it"},"executable":"/t/it"}
{"reason":"compiler-artifact","manifest_path":"/p/tests/Cargo.toml","target":{"kind":["lib"],"name":"x"},"executable":null}
{"reason":"build-finished","success":true}
nonsense"#;
        let found = parse(messages).unwrap();
        assert_eq!(found, ("/t/it-1".into(), "/p/tests".into()));
    }

    fn chosen(names: &[&str], all: bool, filter: &str) -> Result<Vec<String>> {
        let listed = "agent_crash::one: test\ncrash::one: test\ncrash::two: test\n\n3 tests";
        let choice = Choice {
            tests: names.iter().map(|&name| name.to_owned()).collect(),
            all,
            doctor: false,
            filter: filter.to_owned(),
        };
        let modules = choice.of(modules(listed))?;
        Ok(modules
            .into_iter()
            .flat_map(|module| module.tests)
            .collect())
    }

    #[test]
    fn a_module_is_run_alone_whatever_others_are_called() {
        let two = ["crash::one", "crash::two"];
        assert_eq!(chosen(&["crash"], false, "").unwrap(), two);
        assert_eq!(chosen(&["crash"], false, "two").unwrap(), ["crash::two"]);
        let ones = ["agent_crash::one", "crash::one"];
        assert_eq!(chosen(&[], true, "one").unwrap(), ones);
    }

    #[test]
    fn what_is_not_there_is_said() {
        let missing = chosen(&["drain"], false, "").unwrap_err();
        assert!(missing.to_string().contains("it/drain.rs"), "{missing}");
        // No names at all would be all tests.
        chosen(&["crash"], false, "crash").unwrap_err();
    }
}
