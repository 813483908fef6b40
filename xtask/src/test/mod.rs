//! `cargo xtask test`: builds everything, runs the unit tests, then the integration tests, and
//! shows the figures they measured and what was skipped.

pub(crate) mod measuring;
mod outcome;
pub(crate) mod quick;
mod report;
mod sessions;
mod stage;

use std::{env, iter, path::PathBuf, time::Instant};

use anyhow::{Result, bail};
use clap::Args;

use self::{outcome::Outcome, report::Report, sessions::Sessions, stage::Stage};
use crate::{command, lint, project::Project, setup};

/// All packages but this one, always together: with the same selection of packages cargo builds
/// every dependency once.
pub(crate) const PACKAGES: [&str; 3] = ["--workspace", "--exclude", "xtask"];
/// Makes a skip a failure.
const REQUIRE_ALL: &str = "HOTLB_REQUIRE_ALL";

/// The arguments of `cargo xtask test`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only tests whose name contains this
    filter: Option<String>,
    /// Leave out the integration tests, which need root
    #[arg(long)]
    unit_only: bool,
    /// Lint, the unit tests and one integration test of each capability: minutes, for everyday work
    #[arg(long, conflicts_with_all = ["filter", "unit_only"])]
    quick: bool,
    /// Stop, as a failure, a stage that takes longer than this
    #[arg(long, value_name = "MINUTES")]
    deadline: Option<u32>,
}

impl Arguments {
    /// All tests, each stage limited to `minutes`.
    pub(crate) fn all_within(minutes: u32) -> Self {
        Self {
            filter: None,
            unit_only: false,
            quick: false,
            deadline: Some(minutes),
        }
    }
}

/// Does what `arguments` ask for.
pub(crate) fn run(arguments: &Arguments, project: &Project) -> Result<()> {
    if !arguments.unit_only && !rustix::process::geteuid().is_root() {
        bail!("the integration tests need root; `cargo xtask test --unit-only` does not");
    }
    let mut outcome = Outcome::default();
    if arguments.quick
        && let Err(error) = lint::run(project)
    {
        outcome.troubles(iter::once(format!("{error:#}")));
    }
    for stage in stage::UNIT {
        outcome.add(run_stage(&stage, arguments, project)?);
    }
    if !arguments.unit_only {
        outcome.add(integration(arguments, project)?);
    }
    outcome.show();
    outcome.verdict()
}

/// Runs the integration tests and shows what they reported.
fn integration(arguments: &Arguments, project: &Project) -> Result<Outcome> {
    setup::for_tests()?;
    command::run(project.cargo().args(["build", "--release"]).args(PACKAGES))?;
    let target = project.metadata()?.target_directory;
    let file = Report::begin(&target)?;
    let hotlb = target.join("release/hotlb");
    let stages = if arguments.quick {
        stage::quick(&hotlb, &file).into()
    } else if arguments.filter.is_some() {
        vec![stage::alone(&hotlb, &file)]
    } else {
        stage::integration(&hotlb, &file).into()
    };
    let _equal = Sessions::equal();
    let mut outcome = Outcome::default();
    for stage in stages {
        outcome.add(run_stage(&stage, arguments, project)?);
    }
    let report = Report::read(&file)?;
    report.show();
    if env::var_os(REQUIRE_ALL).is_some() {
        let skipped = report.skips.iter();
        outcome.troubles(skipped.map(|(test, _)| format!("{test}: skipped")));
    }
    Ok(outcome)
}

fn run_stage(stage: &Stage, arguments: &Arguments, project: &Project) -> Result<Outcome> {
    stage.run(project, arguments.filter.as_deref(), arguments.deadline)
}

/// How long something took.
pub(crate) fn minutes(since: Instant) -> String {
    format!("{:.1} minutes", since.elapsed().as_secs_f64() / 60.0)
}

/// Where the report of the integration tests is written.
fn report_file(target: &std::path::Path) -> PathBuf {
    target.join("hotlb-test-report.tsv")
}
