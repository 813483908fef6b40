//! What came of it: a table of features and one of tests, a column for each kernel.

use std::path::Path;

use anyhow::Result;

use super::{
    doctor::{self, Finding},
    machine::Run,
    package::Kernel,
    plan::{self, Plan, Row},
};

/// Everything about one kernel.
#[derive(Debug)]
pub(super) struct Outcome {
    kernel: String,
    controllers: String,
    findings: Vec<Finding>,
    modules: Vec<Tested>,
    troubles: Vec<String>,
    minutes: u64,
}

/// What came of one module of tests.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tested {
    name: String,
    passed: usize,
    failed: Vec<String>,
    skips: Vec<String>,
    degraded: Option<String>,
}

impl Outcome {
    /// Reads what a machine reported.
    pub(super) fn read(kernel: &Kernel, shared: &Path, plan: &Plan, run: &Run) -> Result<Self> {
        let mut outcome = Self {
            kernel: format!("{} ({})", kernel.release, kernel.version),
            controllers: String::new(),
            findings: doctor::read(shared).unwrap_or_default(),
            modules: Vec::new(),
            troubles: Vec::new(),
            minutes: run.took.as_secs().div_ceil(60),
        };
        let mut done = false;
        for row in plan::rows(shared)? {
            match row {
                Row::Machine { controllers } => outcome.controllers = controllers,
                Row::Module { .. } | Row::Degraded { .. } => outcome.modules.extend(tested(&row)),
                Row::Done { warnings } => {
                    done = true;
                    outcome.troubles.extend(warnings);
                }
            }
        }
        let missing = outcome
            .findings
            .iter()
            .filter(|finding| finding.is_missing());
        let missing = missing.map(|finding| format!("{}: {}", finding.check, finding.found));
        outcome.troubles.extend(missing);
        if outcome.findings.is_empty() {
            outcome
                .troubles
                .push("`hotlb doctor` did not answer".to_owned());
        }
        if !done || outcome.modules.len() != plan.modules().len() {
            let console = run.console.display();
            let trouble = format!("the machine did not run to its end: see {console}");
            outcome.troubles.push(trouble);
        }
        Ok(outcome)
    }

    /// Takes in what went wrong beside tests.
    pub(super) fn trouble(&mut self, trouble: String) {
        self.troubles.push(trouble);
    }

    /// Tests that failed, and other trouble.
    pub(super) fn failed(&self) -> usize {
        let tested = self
            .modules
            .iter()
            .filter(|tested| tested.degraded.is_none());
        tested.map(|tested| tested.failed.len()).sum::<usize>() + self.troubles.len()
    }
}

impl Tested {
    /// One that was not run: the kernel lacks what it tests.
    fn degraded(name: &str, why: &str) -> Self {
        Self {
            name: name.to_owned(),
            passed: 0,
            failed: Vec::new(),
            skips: Vec::new(),
            degraded: Some(why.to_owned()),
        }
    }

    fn cell(&self) -> String {
        let failed = self.failed.len();
        let cell = match (&self.degraded, failed) {
            (Some(why), _) => format!("not run, degraded: {why}"),
            (None, 0) => format!("{} passed", self.passed),
            (None, _) => format!("{} passed, **{failed} failed**", self.passed),
        };
        if self.skips.is_empty() {
            return cell;
        }
        format!("{cell}, {} skipped", self.skips.len())
    }
}

/// Counts the lines of a module's tests. One that did not end counts as a failure of its own.
fn tested(row: &Row) -> Option<Tested> {
    let (name, output, ended, skips, seconds) = match row {
        Row::Module {
            name,
            output,
            ended,
            skips,
            seconds,
        } => (name, output, ended, skips, seconds),
        Row::Degraded { name, why } => return Some(Tested::degraded(name, why)),
        Row::Machine { .. } | Row::Done { .. } => return None,
    };
    let ends = |ending: &str| {
        let tests = output.lines().filter_map(|line| line.strip_prefix("test "));
        let tests = tests.filter_map(|line| line.strip_suffix(ending));
        tests.map(str::to_owned).collect::<Vec<_>>()
    };
    let mut failed = ends(" ... FAILED");
    if !ended {
        failed.push(format!("{name}: did not end within {seconds} s"));
    } else if !output.contains("test result: ") {
        failed.push(format!("{name}: did not say how it ended"));
    }
    Some(Tested {
        name: name.clone(),
        passed: ends(" ... ok").len(),
        failed,
        skips: skips.clone(),
        degraded: None,
    })
}

/// Prints the tables as Markdown, and what is behind their cells.
pub(super) fn show(outcomes: &[Outcome]) {
    println!();
    line("", outcomes.iter().map(|outcome| outcome.kernel.clone()));
    line("---", outcomes.iter().map(|_| "---".to_owned()));
    let controllers = outcomes.iter().map(|outcome| outcome.controllers.clone());
    line("cgroup2 controllers", controllers);
    features(outcomes);
    tests(outcomes);
    let minutes = outcomes
        .iter()
        .map(|outcome| format!("{} min", outcome.minutes));
    line("time in all", minutes);
    for outcome in outcomes {
        details(outcome);
    }
}

/// What is not ok on one of the kernels, by its name.
fn features(outcomes: &[Outcome]) {
    let mut names: Vec<&str> = Vec::new();
    let findings = outcomes.iter().flat_map(|outcome| &outcome.findings);
    for finding in findings.filter(|finding| !finding.is_ok()) {
        if !names.contains(&finding.check.as_str()) {
            names.push(&finding.check);
        }
    }
    let full = outcomes.iter().map(|outcome| {
        let full = outcome.findings.iter().filter(|finding| finding.is_ok());
        format!("{} of {} full", full.count(), outcome.findings.len())
    });
    line("`hotlb doctor`", full);
    for name in names {
        line(name, outcomes.iter().map(|outcome| feature(outcome, name)));
    }
}

fn feature(outcome: &Outcome, name: &str) -> String {
    let mut findings = outcome.findings.iter();
    let finding = findings.find(|finding| finding.check == name);
    match finding {
        None => "not asked".to_owned(),
        Some(finding) if finding.is_ok() => "full".to_owned(),
        Some(finding) => {
            let cost = finding.cost.iter().map(|cost| format!("; {cost}"));
            let cost: String = cost.collect();
            format!("{}: {}{cost}", finding.verdict, finding.found)
        }
    }
}

fn tests(outcomes: &[Outcome]) {
    let Some(first) = outcomes.first() else {
        return;
    };
    for name in first.modules.iter().map(|tested| &tested.name) {
        let cells = outcomes.iter().map(|outcome| {
            let tested = outcome.modules.iter().find(|tested| tested.name == *name);
            tested.map_or_else(|| "did not run".to_owned(), Tested::cell)
        });
        line(&format!("`{name}`"), cells);
    }
}

fn details(outcome: &Outcome) {
    println!("\n{}", outcome.kernel);
    for tested in &outcome.modules {
        for test in &tested.failed {
            println!("  failed: {test}");
        }
        for skip in &tested.skips {
            println!("  skipped: {}: {skip}", tested.name);
        }
    }
    for trouble in &outcome.troubles {
        println!("  failed: {trouble}");
    }
}

fn line(name: &str, cells: impl Iterator<Item = String>) {
    let cells: Vec<_> = cells.map(|cell| cell.replace('|', "/")).collect();
    println!("| {name} | {} |", cells.join(" | "));
}

#[cfg(test)]
mod tests_of_counting {
    use super::*;

    fn row(name: &str, output: &str, ended: bool) -> Row {
        Row::Module {
            name: name.to_owned(),
            output: output.to_owned(),
            ended,
            skips: Vec::new(),
            seconds: 3,
        }
    }

    #[test]
    fn passed_failed_and_not_ended() {
        let output =
            "test drain::a ... ok\ntest drain::b ... FAILED\ntest result: FAILED. 1 passed";
        let counted = tested(&row("drain", output, true)).unwrap();
        assert_eq!(counted.passed, 1);
        assert_eq!(counted.failed, ["drain::b"]);
        let hung = tested(&row("drain", "test a ... ok\n", false)).unwrap();
        assert_eq!((hung.passed, hung.failed.len()), (1, 1));
        let crashed = tested(&row("drain", "test a ... ok\n", true)).unwrap();
        assert_eq!(crashed.failed.len(), 1);
    }

    #[test]
    fn what_was_not_run_says_why_and_is_no_failure() {
        let row = Row::Degraded {
            name: "polite".to_owned(),
            why: "no bpf_loop".to_owned(),
        };
        let degraded = tested(&row).unwrap();
        assert_eq!(degraded.cell(), "not run, degraded: no bpf_loop");
        assert!(degraded.failed.is_empty());
    }
}
