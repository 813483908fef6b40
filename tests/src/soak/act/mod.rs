//! How each step is done.

mod agent;

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use hotlb::fault::FAULTS;
use nix::sys::signal::{Signal, kill};

use super::{Allowed, LIMIT, Step};
use crate::{cgroups, command::Run, history, host::Host, servers::Kind, status::Service, wait};

/// Writes of the journal in an upgrade; a fault at a later one never comes.
const WRITES: u32 = 12;

/// The host that is shaken, and what it is shaken by.
#[derive(Debug)]
pub(super) struct Shaken {
    host: Host,
    target: SocketAddr,
    chance: fastrand::Rng,
    /// The kinds of steps that are done; all if it is empty.
    only: Vec<Step>,
    /// Generations named so far.
    named: u32,
}

impl Shaken {
    /// Nothing runs on it yet. The same `seed` gives the same steps in the same order.
    pub(super) fn new(host: Host, target: SocketAddr, seed: u64) -> Self {
        Self {
            host,
            target,
            chance: fastrand::Rng::with_seed(seed),
            only: Vec::new(),
            named: 0,
        }
    }

    /// Steps of these kinds alone; all kinds, if it names none.
    pub(super) fn only(&mut self, only: Vec<Step>) {
        self.only = only;
    }

    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    /// Where its service is.
    pub(super) fn target(&self) -> SocketAddr {
        self.target
    }

    /// The next step.
    pub(super) fn any_step(&mut self) -> Step {
        Step::any(&mut self.chance, &self.only)
    }

    /// Does it; what it may have cost.
    pub(super) fn act(&mut self, step: Step) -> Result<Allowed> {
        match step {
            Step::Upgrade => self.upgrade(),
            Step::FailingUpgrade => self.failing_upgrade(),
            Step::Rollback => self.rollback(),
            Step::StopParked => self.stop_parked(),
            Step::KillActive => self.kill_active(),
            Step::KillCandidate => self.kill_candidate(),
            Step::KillKeeper => self.kill_keeper(),
            Step::KillAgent => {
                self.kill_agent()?;
                self.host.start_agent()?;
                Ok(Allowed::Nothing)
            }
            Step::KillAgentInRollout => self.kill_agent_in_rollout(),
            Step::UpgradeAgent => {
                self.host.ok(&["agent", "upgrade"])?;
                Ok(Allowed::Nothing)
            }
        }
    }

    pub(super) fn upgrade(&mut self) -> Result<Allowed> {
        let name = self.name();
        if self.chance.bool() {
            self.host.upgrade(&name, &self.server(&name)?)?;
        } else {
            self.try_upgrade(&name, &[])?.expect_success()?;
        }
        self.expect_active(&name)?;
        Ok(Allowed::Nothing)
    }

    fn failing_upgrade(&mut self) -> Result<Allowed> {
        let (name, before) = (self.name(), self.active()?);
        let run = if self.chance.bool() {
            self.try_upgrade(&name, &["--hook", "swap=exit 3"])?
        } else {
            let program = ["upgrade", "--generation", &name, "--", "/bin/false"];
            self.host.hotlb(&program)?
        };
        ensure!(run.code != 0, "{}", run.describe());
        self.expect_active(&before)?;
        Ok(Allowed::Nothing)
    }

    fn rollback(&mut self) -> Result<Allowed> {
        let web = self.host.web()?;
        let Some(previous) = web.previous.clone() else {
            return self.upgrade();
        };
        let state = web.generation(&previous)?.state.clone();
        if !["draining", "standby", "stopped"].contains(&state.as_str()) {
            return self.upgrade();
        }
        self.host.ok(&["rollback"])?;
        self.expect_active(&previous)?;
        Ok(Allowed::Nothing)
    }

    fn stop_parked(&mut self) -> Result<Allowed> {
        let active = self.active()?;
        self.host.ok(&["stop", "--park", &active])?;
        self.host.wait_state(&active, &["stopped"])?;
        self.upgrade()?;
        Ok(Allowed::WaitingAndKept)
    }

    fn kill_active(&mut self) -> Result<Allowed> {
        let active = self.active()?;
        self.kill_generation(&active)?;
        let web = self.host.web()?;
        if lives(&web, web.active.as_deref()) {
            return Ok(Allowed::Accepted);
        }
        self.upgrade()?;
        Ok(Allowed::AcceptedAndWaiting)
    }

    fn kill_candidate(&mut self) -> Result<Allowed> {
        let (name, before) = (self.name(), self.active()?);
        self.host.deploy(&name, &self.server(&name)?)?;
        self.kill_generation(&name)?;
        self.expect_active(&before)?;
        Ok(Allowed::Nothing)
    }

    fn kill_generation(&self, name: &str) -> Result<()> {
        let process = self.host.generation(name)?.process()?;
        cgroups::kill(&cgroups::of(process)?)?;
        self.host.wait_state(name, &["failed", "stopped"])?;
        Ok(())
    }

    fn kill_keeper(&self) -> Result<Allowed> {
        let keeper = self.host.keeper()?.context("no keeper")?;
        kill(keeper, Signal::SIGKILL)?;
        wait::until_true("another keeper runs", LIMIT, || {
            let found = self.host.keeper();
            found.is_ok_and(|found| found.is_some_and(|pid| pid != keeper))
        })?;
        Ok(Allowed::Nothing)
    }

    fn kill_agent_in_rollout(&mut self) -> Result<Allowed> {
        let (name, before) = (self.name(), self.active()?);
        self.kill_agent()?;
        let drill = format!("kill@{}", self.chance.u32(1..=WRITES));
        // One that is killed as it starts does not start.
        if self.host.start_agent_with(&[(FAULTS, &drill)]).is_ok() {
            self.try_upgrade(&name, &[])?;
        }
        self.kill_agent_again()?;
        self.host.start_agent()?;
        history::wait_all_over(&self.host)?;
        let active = self.active()?;
        if active != name && active != before {
            bail!("{before} was active, {name} was to be, {active} is");
        }
        Ok(Allowed::Nothing)
    }

    /// The drill has killed it, or the rollout had fewer writes.
    fn kill_agent_again(&mut self) -> Result<()> {
        if self.host.agent().is_ok() {
            self.kill_agent()?;
        }
        Ok(())
    }

    fn try_upgrade(&self, name: &str, options: &[&str]) -> Result<Run> {
        self.host.try_upgrade(name, options, &self.server(name)?)
    }

    fn name(&mut self) -> String {
        self.named += 1;
        format!("g{}", self.named)
    }

    fn server(&self, name: &str) -> Result<Vec<String>> {
        Kind::Plain.command(self.host.directory(), name, self.target.port())
    }

    pub(super) fn active(&self) -> Result<String> {
        let web = self.host.web()?;
        let active = web.active.clone();
        active.with_context(|| format!("nobody is active: {web:#?}"))
    }

    fn expect_active(&self, name: &str) -> Result<()> {
        let mut last = None;
        // What failed is undone by itself, a moment after it was said.
        let active = wait::until_true("it is active", Duration::from_secs(10), || {
            last = self.active().ok();
            last.as_deref() == Some(name)
        });
        active.with_context(|| format!("{name} is not active, {last:?} is"))
    }
}

fn lives(web: &Service, generation: Option<&str>) -> bool {
    generation
        .and_then(|name| web.generation(name).ok())
        .is_some_and(|found| found.state == "active")
}
