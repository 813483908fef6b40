//! What must hold after each step, and what must hold at rest.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use super::{Count, LIMIT, Soak};
use crate::{cycles, footprint::Footprint, history, wait};

/// Connections that ask who is active.
const ASKED: usize = 12;
/// KiB that an agent may have more of than at the first rest: what an allocator keeps.
const MEMORY: u64 = 16 * 1024;
/// Descriptors likewise: connections to it that are just ending.
const DESCRIPTORS: usize = 4;
/// Cgroups likewise: the one that a service's hooks have theirs in stays once a hook has run.
const CGROUPS: usize = 1;

impl Soak {
    /// After each step.
    pub(super) fn check(&mut self) -> Result<()> {
        self.shaken.agent()?;
        ensure!(self.shaken.host().keeper()?.is_some(), "no keeper");
        let web = self.shaken.host().web()?;
        web.steering.check_balance()?;
        let active = self.shaken.active()?;
        self.shaken
            .host()
            .expect_answers(self.shaken.target(), ASKED, &active)?;
        self.connected += ASKED as u64;
        ensure!(history::all_over(self.shaken.host())?, "a rollout goes on");
        self.check_processes()?;
        let count = Count::of(self.shaken.host())?;
        if let Some(former) = self.count.replace(count) {
            count.expect_grown_from(&former)?;
        }
        Ok(())
    }

    /// Only of generations that live are there processes.
    fn check_processes(&self) -> Result<()> {
        let mut dead = Vec::new();
        let none = wait::until_true("the dead have no process", LIMIT, || {
            dead = self.risen().unwrap_or_else(|error| vec![error.to_string()]);
            dead.is_empty()
        });
        none.with_context(|| format!("{dead:?}"))
    }

    fn risen(&self) -> Result<Vec<String>> {
        let web = self.shaken.host().web()?;
        let mut risen = Vec::new();
        for pid in self.shaken.host().netns().pids()? {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut words = line.split('\0');
            if words
                .next()
                .is_none_or(|program| !program.ends_with("plain-server"))
            {
                continue;
            }
            let name = words.skip_while(|word| *word != "--name").nth(1);
            let name = name.unwrap_or_default();
            let lives = web
                .generation(name)
                .is_ok_and(|found| !["stopped", "failed"].contains(&found.state.as_str()));
            if !lives {
                risen.push(format!("{pid} is {name}"));
            }
        }
        Ok(risen)
    }

    /// Without load, with one generation active and one beside it: counted to the connection, and
    /// nothing is held that was not at the first rest.
    pub(super) fn check_rest(&mut self) -> Result<()> {
        let standby = self.shaken.active()?;
        self.shaken.upgrade()?;
        cycles::settle(self.shaken.host(), &standby)?;
        self.check()?;
        self.check_counts()?;
        let holds = Footprint::of_agent_at_rest(self.shaken.host(), self.shaken.agent()?)?;
        self.summary.rested(holds);
        let first = *self.settled.get_or_insert(holds);
        let bound = Footprint {
            descriptors: first.descriptors + DESCRIPTORS,
            cgroups: first.cgroups + CGROUPS,
            ..first
        };
        holds.expect_no_more_than(&bound, MEMORY)
    }

    fn check_counts(&self) -> Result<()> {
        let mut last = None;
        let ended = wait::until_true("every connection has ended", LIMIT, || {
            last = Count::of(self.shaken.host()).ok();
            last.is_some_and(|count| whole(count.opened) == whole(count.closed))
        });
        let web = self.shaken.host().web()?;
        ended.with_context(|| format!("{last:?}\n{web:#?}"))?;
        for generation in &web.generations {
            let live = generation.connections.live;
            ensure!(live == 0, "{} has {live} connections", generation.name);
        }
        let count = Count::of(self.shaken.host())?;
        let clients = whole(count.opened - count.probes);
        let range = self.connected..=self.connected + self.unclear;
        ensure!(
            range.contains(&clients),
            "clients made {range:?} connections, {clients} were counted: {count:?}\n{web:#?}"
        );
        Ok(())
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count: whole, positive and far below 2^52"
)]
fn whole(count: f64) -> u64 {
    count as u64
}
