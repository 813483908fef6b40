//! What the agent runs for itself beside a service: checks, hooks.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use lb_common::GenerationId;
use tokio::time::{MissedTickBehavior, interval};

use super::{super::CheckError, Checks, still_alive};
use crate::{
    clock::Deadline,
    generation::probe::{
        self,
        exec::{self, ExecCheck},
    },
    sys::{cgroup::Cgroup, environment::Environment},
};

/// The longest one run of a check may take; it is run again until the deadline.
const PATIENCE: Duration = Duration::from_secs(2);
/// The shortest time between the starts of two runs: each is a process.
const PACE: Duration = Duration::from_millis(200);

/// Numbers the runs, so that two at a time do not share a cgroup.
static RUNS: AtomicU64 = AtomicU64::new(0);

/// Where the hooks and checks of the service in `cgroup` live: beside it, for they are none of its
/// servers. A service's name has no dot.
pub(in crate::agent::service) fn hooks_cgroup(cgroup: &Cgroup) -> Cgroup {
    Cgroup::at(cgroup.path().with_extension("hooks"))
}

impl Checks {
    /// Runs `command` until it approves of the generation, or the deadline.
    pub(in crate::agent::service) async fn await_exec(
        &self,
        id: GenerationId,
        command: &[String],
        deadline: Deadline,
    ) -> Result<(), CheckError> {
        let (cwd, env) = self.exec_place(id).await?;
        let mut turns = interval(PACE);
        let mut before = None;
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            turns.tick().await;
            let run = RUNS.fetch_add(1, Ordering::Relaxed);
            let cgroup = hooks_cgroup(&self.cgroup).child(&format!("check-{}-{run}", id.raw()));
            let patience = deadline.left().unwrap_or(PACE).min(PATIENCE);
            let asked = exec::check(ExecCheck {
                command,
                cgroup,
                netns: &self.netns,
                cwd: &cwd,
                env: env.clone(),
                patience,
            });
            let Err(error) = asked.await else {
                return Ok(());
            };
            still_alive(&*self.state.lock().await, id)?;
            let final_word = error.is_final() || deadline.left().is_none_or(|left| left < PACE);
            let error = probe::telling(before, &error, patience < PATIENCE);
            if final_word {
                return Err(CheckError::Probe(error));
            }
            before = Some(error);
        }
    }

    /// Directory and environment of a check of the generation.
    async fn exec_place(&self, id: GenerationId) -> Result<(PathBuf, Environment), CheckError> {
        let registry = self.state.lock().await;
        let generation = registry
            .get(id)
            .ok_or_else(|| CheckError::Ended("is gone".to_owned()))?;
        let mut env = self.hook_env();
        env.set("HOTLB_GENERATION", generation.name());
        env.extend(self.quic_server_id(id));
        if let Some(pid) = generation.pid() {
            env.set("HOTLB_PID", pid.to_string());
        }
        Ok((generation.command().cwd().to_owned(), env))
    }
}
