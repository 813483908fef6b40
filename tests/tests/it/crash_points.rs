//! Promise: an agent that is killed after any word it writes into the journal leaves a rollout that the next agent
//! finishes or undoes. Every write of every kind of rollout is tried, not a sample; the agents that come after are
//! killed too.

use std::{collections::BTreeMap, fs, net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use hotlb::fault::FAULTS;
use hotlb_tests::{
    cgroups,
    command::Run,
    history,
    host::Host,
    load::{Load, Plan},
    report,
    servers::Kind,
    wait,
};

const TARGET: &str = "127.0.0.1:8080";
const LIMIT: Duration = Duration::from_secs(30);
/// More writes than any rollout here has: beyond it the enumeration does not end.
const MOST: usize = 100;

/// One kind of rollout.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kill {
    Promote,
    Upgrade,
    FailingSwap,
    Rollback,
    ColdRollback,
    ParkedUpgrade,
}

impl Kill {
    /// What the command says when nothing happens to it.
    fn code(self) -> i32 {
        i32::from(self == Self::FailingSwap)
    }

    fn starts_candidate(self) -> bool {
        matches!(
            self,
            Self::Upgrade | Self::FailingSwap | Self::ParkedUpgrade
        )
    }

    fn is_rollback(self) -> bool {
        matches!(self, Self::Rollback | Self::ColdRollback)
    }
}

struct Series {
    host: Host,
    kind: Kill,
    target: SocketAddr,
    /// Who was active before the rollout, and who is to be after it.
    from: String,
    to: String,
}

impl Series {
    fn new(kind: Kill) -> Result<Self> {
        let mut host = Host::without_agent()?;
        let ran = host.directory().join("ran");
        let mut config = "[service.web]\nlisten = [\"0.0.0.0:8080\"]\n".to_owned();
        if kind == Kill::ParkedUpgrade {
            config += "mode = \"parked\"\n";
        } else if kind.starts_candidate() {
            config += &hooks(&ran.display().to_string());
        }
        host.write_config(&config)?;
        host.start_agent()?;
        let series = Self {
            host,
            kind,
            target: TARGET.parse()?,
            from: "gen0".to_owned(),
            to: String::new(),
        };
        series.upgrade("gen0", &[])?.expect_success()?;
        Ok(series)
    }

    fn load(&self) -> Result<Load> {
        self.host.load(Plan {
            max_requests: u64::MAX,
            max_duration: Duration::from_mins(15),
            ..Plan::new(self.target).workers(8)
        })
    }

    /// Kills at each write in turn until the rollout gets through; how many points there were.
    fn run(mut self) -> Result<()> {
        let load = self.load()?;
        let mut points = 0;
        let mut killed_again = 0;
        while points < MOST {
            let point = points + 1;
            let through = self
                .point(point, &mut killed_again)
                .with_context(|| format!("{:?} killed at write {point}", self.kind))?;
            if through {
                break;
            }
            points += 1;
        }
        ensure!(points < MOST, "it is killed for ever");
        ensure!(points > 1, "only {points} writes");
        let outcome = load.stop()?;
        let name = format!("crash points of {:?}", self.kind);
        report::figure(&name, points);
        report::figure(&format!("{name}, kills of later agents"), killed_again);
        report::figure(&format!("{name}, requests"), outcome.requests());
        report::figure(&format!("{name}, slowest"), format!("{:?}", outcome.max));
        match self.kind {
            // Clients wait while nobody serves: that takes as long as the agent is away.
            Kill::ParkedUpgrade => outcome.expect_none_failed(),
            _ => outcome.expect_none_lost(),
        }
    }

    /// One crash; true when there was none, for the rollout has no write of this number.
    fn point(&mut self, point: usize, killed_again: &mut usize) -> Result<bool> {
        self.prepare(point)?;
        self.host.kill_agent()?;
        self.drill(point)?;
        let through = self.operate()?;
        if !through {
            for write in 1..=2 {
                self.drill(write)?;
                if self.dies()? {
                    *killed_again += 1;
                } else {
                    self.host.kill_agent()?;
                }
            }
            self.host.start_agent()?;
            history::wait_all_over(&self.host)?;
        }
        self.check(through)
            .with_context(|| format!("the agent's log:\n{}", self.host.agent_log()))?;
        self.go_on(point)?;
        Ok(through)
    }

    /// Brings about what the rollout begins with.
    fn prepare(&mut self, point: usize) -> Result<()> {
        self.to = format!("c{point}");
        self.from = self.active()?;
        match self.kind {
            Kill::Promote => {
                self.host.deploy(&self.to, &self.server(&self.to)?)?;
            }
            Kill::Rollback | Kill::ColdRollback => {
                self.upgrade(&self.to, &[])?.expect_success()?;
                std::mem::swap(&mut self.from, &mut self.to);
                self.host.wait_state(&self.to, &["standby", "stopped"])?;
            }
            Kill::Upgrade | Kill::FailingSwap | Kill::ParkedUpgrade => {}
        }
        if self.kind == Kill::ColdRollback {
            self.host.ok(&["stop", &self.to])?;
        }
        Ok(())
    }

    fn drill(&mut self, write: usize) -> Result<()> {
        // The agent may be killed before it ever answers.
        let drill = format!("kill@{write}");
        match self.host.start_agent_with(&[(FAULTS, &drill)]) {
            Ok(()) => Ok(()),
            Err(error) => {
                let killed = format!("{error:#}").contains("signal: 9");
                ensure!(killed, error);
                Ok(())
            }
        }
    }

    /// Has the rollout done; true when it got through, false when the agent was killed.
    fn operate(&mut self) -> Result<bool> {
        let run = match self.kind {
            Kill::Promote => self.host.hotlb(&["promote", &self.to])?,
            Kill::Upgrade | Kill::ParkedUpgrade => self.upgrade(&self.to, &[])?,
            Kill::FailingSwap => self.upgrade(&self.to, &["--hook", "swap=exit 3"])?,
            Kill::Rollback | Kill::ColdRollback => self.host.hotlb(&["rollback"])?,
        };
        if run.code == self.kind.code() && !run.stderr.contains("broke off") {
            self.host.kill_agent()?;
            self.host.start_agent()?;
            return Ok(true);
        }
        let ended = self.host.agent()?.wait(LIMIT);
        ended.with_context(|| run.describe())?;
        Ok(false)
    }

    /// Whether the agent dies before all rollouts are over.
    fn dies(&mut self) -> Result<bool> {
        let mut over = false;
        wait::until_true("the rollout is over, or the agent is", LIMIT, || {
            let Ok(agent) = self.host.agent() else {
                return true;
            };
            if agent.ended().is_ok_and(|ended| ended.is_some()) {
                return true;
            }
            over = history::all_over(&self.host).is_ok_and(|over| over);
            over
        })?;
        Ok(!over)
    }

    fn check(&self, through: bool) -> Result<()> {
        let told = history::last(&self.host)?;
        let outcome = history::text(&told, "/outcome").context("no outcome")?;
        let active = self.active()?;
        let expected = match (self.kind.is_rollback(), outcome) {
            (true, "rolled_back") | (false, "done") => &self.to,
            (true, "refused") | (false, "rolled_back") => &self.from,
            _ => anyhow::bail!("{told:#}"),
        };
        ensure!(&active == expected, "{active} is active\n{told:#}");
        self.host.expect_answers(self.target, 10, &active)?;
        if through && self.kind.code() == 0 {
            ensure!(active == self.to, "{told:#}");
        }
        if self.kind.starts_candidate() && outcome == "rolled_back" {
            self.host.wait_state(&self.to, &["failed", "stopped"])?;
            ensure!(self.processes_of(&self.to)? == 0, "{} lives", self.to);
        }
        ensure!(
            cgroups::is_empty(&self.host.cgroup()?.join("web.hooks")),
            "a hook lives"
        );
        self.check_hooks()
    }

    /// Runs of hooks, by rollout, phase and hook: their attempts.
    fn check_hooks(&self) -> Result<()> {
        let Ok(text) = fs::read_to_string(self.host.directory().join("ran")) else {
            return Ok(());
        };
        let mut runs: BTreeMap<(&str, &str, &str), Vec<u32>> = BTreeMap::new();
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [rollout, phase, hook, attempt] = words[..] else {
                anyhow::bail!("a hook wrote {line:?}");
            };
            runs.entry((rollout, phase, hook))
                .or_default()
                .push(attempt.parse()?);
        }
        for (hook, attempts) in runs {
            ensure!(
                hook.2 != "once" || attempts.len() == 1,
                "{hook:?} ran as attempts {attempts:?}"
            );
            ensure!(
                attempts.is_sorted_by(|a, b| a < b),
                "{hook:?} ran as attempts {attempts:?}"
            );
        }
        Ok(())
    }

    /// A normal upgrade and a normal rollback. The name of a candidate that was discarded is free.
    fn go_on(&self, point: usize) -> Result<()> {
        let before = self.active()?;
        let next = if self.kind.starts_candidate() && before == self.from {
            self.to.clone()
        } else {
            format!("f{point}")
        };
        self.upgrade(&next, &[])?.expect_success()?;
        ensure!(self.active()? == next);
        self.host.expect_answers(self.target, 10, &next)?;
        self.host.ok(&["rollback"])?;
        ensure!(self.active()? == before);
        self.host.expect_answers(self.target, 10, &before)
    }

    fn active(&self) -> Result<String> {
        let web = self.host.web()?;
        web.active
            .clone()
            .with_context(|| format!("nobody is active: {web:#?}"))
    }

    fn server(&self, generation: &str) -> Result<Vec<String>> {
        Kind::Plain.command(self.host.directory(), generation, self.target.port())
    }

    fn upgrade(&self, generation: &str, options: &[&str]) -> Result<Run> {
        let server = self.server(generation)?;
        self.host.try_upgrade(generation, options, &server)
    }

    fn processes_of(&self, generation: &str) -> Result<usize> {
        let is_it = |pid: &nix::unistd::Pid| {
            fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.split('\0').any(|word| word == generation))
        };
        Ok(self
            .host
            .netns()
            .pids()?
            .iter()
            .filter(|pid| is_it(pid))
            .count())
    }
}

/// Two hooks in each phase, one re-entrant and one not; each says that it ran.
fn hooks(ran: &str) -> String {
    let hook = |name: &str, reentrant: bool| {
        format!(
            "{{ command = \"echo $HOTLB_ROLLOUT $HOTLB_PHASE {name} $HOTLB_ATTEMPT >> {ran}\", \
             reentrant = {reentrant} }}"
        )
    };
    ["pre_load", "validate", "swap", "post_rollback"]
        .map(|phase| {
            format!(
                "hooks.{phase} = [{}, {}]\n",
                hook("again", true),
                hook("once", false)
            )
        })
        .concat()
}

#[test]
fn a_promote_killed_at_each_write() -> Result<()> {
    Series::new(Kill::Promote)?.run()
}

#[test]
fn an_upgrade_with_hooks_killed_at_each_write() -> Result<()> {
    Series::new(Kill::Upgrade)?.run()
}

#[test]
fn an_upgrade_whose_swap_hook_fails_killed_at_each_write() -> Result<()> {
    Series::new(Kill::FailingSwap)?.run()
}

#[test]
fn a_rollback_killed_at_each_write() -> Result<()> {
    Series::new(Kill::Rollback)?.run()
}

#[test]
fn a_cold_rollback_killed_at_each_write() -> Result<()> {
    Series::new(Kill::ColdRollback)?.run()
}

#[test]
fn a_parked_upgrade_killed_at_each_write() -> Result<()> {
    Series::new(Kill::ParkedUpgrade)?.run()
}
