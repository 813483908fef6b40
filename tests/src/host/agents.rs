//! The agents of a host: one, but for the moments of an upgrade, and not always the one that was started.

use std::{fs::File, net::TcpListener, time::Duration};

use anyhow::{Context as _, Result};
use nix::{
    fcntl::{Flock, FlockArg},
    unistd::Pid,
};

use super::Host;
use crate::{exposition, process::Other, wait};

const LIMIT: Duration = Duration::from_secs(15);

impl Host {
    /// The agents that run.
    pub fn agents(&self) -> Result<Vec<Pid>> {
        let is_agent = |pid: &Pid| {
            let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<&str> = line.split('\0').collect();
            words.get(1) == Some(&"agent") && words.get(2) != Some(&"upgrade")
        };
        Ok(self.netns.pids()?.into_iter().filter(is_agent).collect())
    }

    /// Kills every agent; afterwards the next one can start.
    pub fn kill_agents(&self) -> Result<()> {
        for agent in self.agents()? {
            // It may have ended by itself meanwhile.
            if let Ok(agent) = Other::open(agent) {
                agent.kill(LIMIT)?;
            }
        }
        self.no_agent()
    }

    /// Waits until no agent has what the next one needs. One that dies is in no list of processes any more while its
    /// lock and its addresses are still its own.
    pub fn no_agent(&self) -> Result<()> {
        let lock = self.socket().with_file_name("agent.lock");
        wait::until_true("no agent is left", LIMIT, || {
            self.agents().is_ok_and(|agents| agents.is_empty())
                && File::open(&lock)
                    .is_ok_and(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok())
                && self
                    .netns
                    .run(|| TcpListener::bind(exposition::ADDRESS))
                    .is_ok_and(|bound| bound.is_ok())
        })
        .with_context(|| format!("agents: {:?}", self.agents()))
    }
}
