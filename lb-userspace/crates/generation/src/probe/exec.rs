//! A program that looks at a generation and ends with exit code 0.

use std::{path::Path, time::Duration};

use super::ProbeError;
use crate::{
    config::{Hook, HookPhase},
    hook::{self, HookRun},
    sys::{cgroup::Cgroup, environment::Environment, netns::Netns},
};

/// One run of the program.
#[derive(Debug)]
pub struct ExecCheck<'a> {
    /// The program and its arguments.
    pub command: &'a [String],
    /// A cgroup of this run's own.
    pub cgroup: Cgroup,
    /// Where its network is.
    pub netns: &'a Netns,
    /// The directory it starts in.
    pub cwd: &'a Path,
    /// Its whole environment.
    pub env: Environment,
    /// How long it may take; then it is killed.
    pub patience: Duration,
}

/// Runs it once.
///
/// # Errors
///
/// [`ProbeError::Exec`] for every end but exit code 0.
pub async fn check(check: ExecCheck<'_>) -> Result<(), ProbeError> {
    let hook = Hook {
        phase: HookPhase::Validate,
        command: check.command.to_vec(),
        deadline: check.patience,
        reentrant: true,
    };
    let result = hook::run(HookRun {
        hook: &hook,
        cgroup: check.cgroup,
        netns: check.netns,
        cwd: check.cwd,
        env: check.env,
    })
    .await;
    if result.outcome.is_success() {
        return Ok(());
    }
    Err(ProbeError::Exec {
        program: check.command.first().cloned().unwrap_or_default(),
        outcome: result.outcome,
        output: result.output.lines().last().unwrap_or_default().to_owned(),
    })
}
