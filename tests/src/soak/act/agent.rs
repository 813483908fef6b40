//! The agent of a soak, which may be another process than the one that was started.

use anyhow::{Context as _, Result, ensure};
use nix::unistd::Pid;

use super::{super::LIMIT, Shaken};
use crate::wait;

impl Shaken {
    /// The one agent that runs, which is the one that answers.
    pub(in crate::soak) fn agent(&self) -> Result<Pid> {
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
        self.host.kill_agents()?;
        self.host.kill_agent()
    }
}
