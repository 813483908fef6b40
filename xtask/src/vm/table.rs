//! What came of it: a table of features and one of tests, a column for each kernel.

use std::path::Path;

use anyhow::Result;

use super::{
    doctor::{self, Finding},
    machine::Run,
    needs,
    package::Kernel,
    plan::{self, Plan, Row},
};

/// Everything about one kernel.
#[derive(Debug)]
pub(super) struct Outcome {
    kernel: String,
    controllers: String,
    findings: Vec<Finding>,
    programs: Vec<Tested>,
    troubles: Vec<String>,
    minutes: u64,
}

/// What came of one test program.
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
            programs: Vec::new(),
            troubles: Vec::new(),
            minutes: run.took.as_secs().div_ceil(60),
        };
        let mut done = false;
        for row in plan::rows(shared)? {
            match row {
                Row::Machine { controllers } => outcome.controllers = controllers,
                Row::Program { .. } => outcome.programs.extend(tested(&row, &outcome.findings)),
                Row::Done { warnings } => {
                    done = true;
                    outcome.troubles.extend(warnings);
                }
            }
        }
        if outcome.findings.is_empty() {
            outcome
                .troubles
                .push("`hotlb doctor` did not answer".to_owned());
        }
        if !done || outcome.programs.len() != plan.programs.len() {
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

    /// Tests that failed though the kernel has what they need, and other trouble.
    pub(super) fn failed(&self) -> usize {
        let tested = self
            .programs
            .iter()
            .filter(|tested| tested.degraded.is_none());
        tested.map(|tested| tested.failed.len()).sum::<usize>() + self.troubles.len()
    }
}

impl Tested {
    fn cell(&self) -> String {
        let failed = self.failed.len();
        let mut cell = match (&self.degraded, failed) {
            (Some(why), _) => format!("degraded: {why}"),
            (None, 0) => format!("{} passed", self.passed),
            (None, _) => format!("{} passed, **{failed} failed**", self.passed),
        };
        if !self.skips.is_empty() {
            cell += &format!(", {} skipped", self.skips.len());
        }
        cell
    }
}

/// Counts a test program's lines. One that did not end counts as a failure of its own.
fn tested(row: &Row, findings: &[Finding]) -> Option<Tested> {
    let Row::Program {
        name,
        output,
        ended,
        skips,
        seconds,
    } = row
    else {
        return None;
    };
    let ends = |ending: &str| {
        let tests = output.lines().filter_map(|line| line.strip_prefix("test "));
        let tests = tests.filter_map(|line| line.strip_suffix(ending));
        tests.map(str::to_owned).collect::<Vec<_>>()
    };
    let mut failed = ends(" ... FAILED");
    if !ended {
        failed.push(format!("(did not end within {seconds} s)"));
    } else if !output.contains("test result: ") {
        failed.push("(did not say how it ended)".to_owned());
    }
    let degraded = needs::lacking(name, findings).filter(|_| !failed.is_empty());
    Some(Tested {
        name: name.clone(),
        passed: ends(" ... ok").len(),
        failed,
        skips: skips.clone(),
        degraded,
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
            let cost = finding.cost.as_deref().unwrap_or_default();
            format!("{}: {} {cost}", finding.verdict, finding.found)
        }
    }
}

fn tests(outcomes: &[Outcome]) {
    let Some(first) = outcomes.first() else {
        return;
    };
    for name in first.programs.iter().map(|tested| &tested.name) {
        let cells = outcomes.iter().map(|outcome| {
            let tested = outcome.programs.iter().find(|tested| tested.name == *name);
            tested.map_or_else(|| "did not run".to_owned(), Tested::cell)
        });
        line(&format!("`{name}`"), cells);
    }
}

fn details(outcome: &Outcome) {
    println!("\n{}", outcome.kernel);
    for tested in &outcome.programs {
        for test in &tested.failed {
            let how = if tested.degraded.is_some() {
                "degraded"
            } else {
                "failed"
            };
            println!("  {how}: {}::{test}", tested.name);
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
        Row::Program {
            name: name.to_owned(),
            output: output.to_owned(),
            ended,
            skips: Vec::new(),
            seconds: 3,
        }
    }

    #[test]
    fn passed_failed_and_not_ended() {
        let output = "test a ... ok\ntest b ... FAILED\ntest result: FAILED. 1 passed";
        let counted = tested(&row("drain", output, true), &[]).unwrap();
        assert_eq!((counted.passed, counted.failed.len()), (1, 1));
        let hung = tested(&row("drain", "test a ... ok\n", false), &[]).unwrap();
        assert_eq!((hung.passed, hung.failed.len()), (1, 1));
        let crashed = tested(&row("drain", "test a ... ok\n", true), &[]).unwrap();
        assert_eq!(crashed.failed.len(), 1);
    }

    #[test]
    fn a_failure_is_excused_only_by_what_the_kernel_lacks() {
        let finding = Finding {
            check: "hotlb's program polite".to_owned(),
            verdict: "degraded".to_owned(),
            found: "no bpf_loop".to_owned(),
            cost: None,
        };
        let findings = [finding];
        let output = "test b ... FAILED\ntest result: FAILED.";
        let excused = tested(&row("polite", output, true), &findings).unwrap();
        assert!(excused.degraded.is_some());
        assert!(excused.cell().starts_with("degraded: "));
        let other = tested(&row("drain", output, true), &findings).unwrap();
        assert_eq!(other.degraded, None);
        let passed = tested(
            &row("polite", "test b ... ok\ntest result: ok.", true),
            &findings,
        );
        assert_eq!(passed.unwrap().degraded, None);
    }
}
