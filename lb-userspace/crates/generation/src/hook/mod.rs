//! Hooks: one command of a rollout, in a cgroup of its own, until its deadline and not longer.
//!
//! The command's first process starts inside the cgroup, so nothing that it forks is elsewhere.
//! The hook is over when that process has ended, or at the deadline: then everything in the
//! cgroup is killed, daemons included, and nobody waits for a pipe that one of them may still
//! hold. What it prints is read all the time, so that it never blocks on it; the beginning and the
//! end are kept.

mod output;
mod process;
mod starter;

use std::{ffi::OsStr, fmt, path::Path, time::Duration};

use serde::{Deserialize, Serialize};

pub use starter::{StarterError, run as become_hook};

use super::launch;
use crate::{
    clock,
    config::Hook,
    sys::{cgroup::Cgroup, environment::Environment, netns::Netns},
};
use output::Output;
use starter::HookSpec;

/// One run of a hook.
#[derive(Debug)]
pub struct HookRun<'a> {
    /// What to run.
    pub hook: &'a Hook,
    /// Where: a cgroup of this run's own. It is made, and removed afterwards; what an earlier
    /// agent left running in it is killed first.
    pub cgroup: Cgroup,
    /// The network namespace it is in.
    pub netns: &'a Netns,
    /// The directory it starts in.
    pub cwd: &'a Path,
    /// Its whole environment. `PATH` is also where the program is looked up.
    pub env: Environment,
}

/// How a hook went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookResult {
    /// Whether it did what it should.
    pub outcome: HookOutcome,
    /// The first and the last 32 KiB of what it printed, without control characters; a line
    /// between them says what is left out.
    pub output: String,
    /// How many bytes of its output were left out.
    pub dropped: u64,
    /// How long it took, with all that was done to end it.
    #[serde(with = "millis", rename = "took_ms")]
    pub took: Duration,
}

/// The end of a hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookOutcome {
    /// Its first process ended with exit code 0.
    Succeeded,
    /// It ended otherwise: "exited with code 3", "was killed by SIGTERM".
    Failed(String),
    /// It never ran, for this reason.
    NotStarted(String),
    /// It was killed at its deadline, this long after its start.
    TimedOut(#[serde(with = "millis")] Duration),
}

/// Durations in records: whole milliseconds.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(took: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(crate::clock::millis(*took))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}

impl HookOutcome {
    /// Whether the rollout may go on.
    pub const fn is_success(&self) -> bool {
        matches!(self, Self::Succeeded)
    }
}

impl fmt::Display for HookOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Succeeded => f.write_str("succeeded"),
            Self::Failed(how) => f.write_str(how),
            Self::NotStarted(why) => write!(f, "was not started: {why}"),
            Self::TimedOut(deadline) => write!(
                f,
                "was killed at its deadline of {}",
                humantime::format_duration(*deadline)
            ),
        }
    }
}

/// Runs a hook to its end. The result is there at most 100 ms after the deadline, whatever the
/// hook does; a process that not even SIGKILL ends at once is left to a task that removes the
/// cgroup later.
pub async fn run(run: HookRun<'_>) -> HookResult {
    run_by(Path::new("/proc/self/exe"), run).await
}

/// [`run`] with another program as the starter: hotlb itself, by its path, where the caller is
/// another program (a test).
pub async fn run_by(starter: &Path, run: HookRun<'_>) -> HookResult {
    let began = clock::now();
    let mut output = Output::default();
    let outcome = attempt(starter, &run, &mut output).await;
    HookResult {
        outcome,
        dropped: output.dropped(),
        output: output.text(),
        took: began.elapsed(),
    }
}

/// Kills whatever runs in `cgroup` and below it, and removes it: for the cgroup that all hooks of
/// a service share as their parent, when an agent begins. Nothing may run in it meanwhile.
pub async fn sweep(cgroup: &Cgroup) {
    if cgroup.exists() {
        process::remove_all(cgroup).await;
    }
}

async fn attempt(starter: &Path, run: &HookRun<'_>, output: &mut Output) -> HookOutcome {
    let spec = match spec(run) {
        Ok(spec) => spec,
        Err(error) => return HookOutcome::NotStarted(error.to_string()),
    };
    process::run(
        starter,
        &run.cgroup,
        run.netns,
        &spec,
        run.hook.deadline,
        output,
    )
    .await
}

fn spec(run: &HookRun<'_>) -> Result<HookSpec, launch::LaunchError> {
    let command = run.hook.command.split_first();
    let (program, arguments) = command.map_or((OsStr::new(""), [].as_slice()), |(first, rest)| {
        (OsStr::new(first), rest)
    });
    Ok(HookSpec {
        cgroup: run.cgroup.path().to_owned(),
        program: launch::resolve(program, run.cwd, run.env.get("PATH"))?,
        arguments: arguments.to_vec(),
        cwd: run.cwd.to_owned(),
        env: run.env.clone(),
    })
}
