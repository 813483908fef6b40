//! The agent of a soak, which may be another process than the one that was started.

use anyhow::{Context as _, Result, ensure};
use nix::unistd::Pid;

use super::{LIMIT, Soak};
use crate::{process::Other, wait};

impl Soak {
    /// The one agent that runs, which is the one that answers.
    pub(super) fn agent(&self) -> Result<Pid> {
        let mut last = Vec::new();
        let one = wait::until("exactly one agent runs", LIMIT, || {
            last = self.host.agents().ok()?;
            match last.as_slice() {
                [only] => Some(*only),
                _ => None,
            }
        });
        let one = one.with_context(|| format!("agents: {last:?}"))?;
        let says = self.host.status()?.pid;
        ensure!(says == one.as_raw(), "{one} runs, {says} answers");
        Ok(one)
    }

    /// Kills it, if it runs.
    pub(super) fn kill_agent(&mut self) -> Result<()> {
        for agent in self.host.agents()? {
            // It may have ended by itself meanwhile: it was told to in the middle of a rollout.
            if let Ok(agent) = Other::open(agent) {
                agent.kill(LIMIT)?;
            }
        }
        self.no_agent()
    }

    /// Waits until none runs.
    pub(super) fn no_agent(&mut self) -> Result<()> {
        wait::until_true("no agent runs", LIMIT, || {
            self.host.agents().is_ok_and(|agents| agents.is_empty())
        })?;
        self.host.kill_agent()
    }
}
