//! Everything at once for as long as one likes: rollouts, kills of every process and load in a seeded random order,
//! and after each step all that must hold whatever happened.

mod act;
mod check;
mod count;
mod step;
mod summary;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use self::{act::Shaken, count::Count, step::Allowed};
pub use self::{step::Step, summary::Summary};
use crate::{
    footprint::Footprint,
    host::Host,
    load::{Load, Plan},
    report,
};

const TARGET: &str = "127.0.0.1:8080";
/// What is left of a drain ends soon: a soak is to do many steps.
const SERVICE: &str = "listen = [\"0.0.0.0:8080\"]\n\
                       drain = { signal = \"SIGTERM\", signal_after = \"500ms\", deadline = \"5s\" }";
/// Clients that open a connection for each request, and clients that keep theirs.
const FRESH: usize = 8;
const KEPT: usize = 4;
/// Answers each load must have got between two steps.
const BETWEEN: u64 = 30;
/// How long anything that must happen may take.
const LIMIT: Duration = Duration::from_secs(30);
/// Steps between two rests, at which the loads stop and everything is counted.
const STEPS: usize = 12;

/// One host that is shaken.
#[derive(Debug)]
pub struct Soak {
    shaken: Shaken,
    /// Connections that the checks themselves made, and those of the loads that were stopped.
    connected: u64,
    /// Requests that had leave to fail: their connections may be counted or not.
    unclear: u64,
    /// New and kept connections that may be answered late, as they had to wait in an earlier step.
    late: (u64, u64),
    loads: Option<Loads>,
    count: Option<Count>,
    settled: Option<Footprint>,
    summary: Summary,
}

/// The clients.
#[derive(Debug)]
struct Loads {
    fresh: Load,
    kept: Load,
}

impl Soak {
    /// A host with one generation. The same `seed` gives the same steps in the same order.
    pub fn new(seed: u64) -> Result<Self> {
        let mut soak = Self {
            shaken: Shaken::new(Host::with_service(SERVICE)?, TARGET.parse()?, seed),
            connected: 0,
            unclear: 0,
            late: (0, 0),
            loads: None,
            count: None,
            settled: None,
            summary: Summary::default(),
        };
        soak.shaken.upgrade()?;
        Ok(soak)
    }

    /// Does steps of these kinds alone; all kinds, if it names none.
    #[must_use]
    pub fn only(mut self, only: Vec<Step>) -> Self {
        self.shaken.only(only);
        self
    }

    /// Shakes it for so long, and rests at the end.
    pub fn run(mut self, time: Duration) -> Result<Summary> {
        let began = Instant::now();
        while began.elapsed() < time {
            self.begin_loads(time)?;
            for _ in 0..STEPS {
                let step = self.shaken.any_step();
                self.one(step)?;
                if began.elapsed() >= time {
                    break;
                }
            }
            let rest = self.rest();
            rest.with_context(|| format!("at rest: {:#?}", self.shaken.host().web()))?;
        }
        self.summary.took = began.elapsed();
        Ok(self.summary)
    }

    /// Does one step and checks what must hold afterwards.
    fn one(&mut self, step: Step) -> Result<()> {
        let number = self.summary.steps() + 1;
        let began = Instant::now();
        let done = self.shake(step);
        let (host, loads) = (self.shaken.host(), &self.loads);
        done.with_context(|| {
            let seen = loads.as_ref().map(|l| (l.fresh.so_far(), l.kept.so_far()));
            let log = host.agent_log();
            let from = log.len().saturating_sub(6000);
            let log = log.get(from..).unwrap_or(&log);
            format!("step {number}, {step:?}\n{seen:#?}\nthe agent's log ends:\n{log}")
        })?;
        report::remark(format!("step {number}: {step:?}, {:?}", began.elapsed()));
        self.summary.did(step);
        Ok(())
    }

    fn shake(&mut self, step: Step) -> Result<()> {
        let (fresh, kept) = self.seen()?;
        let allowed = self.shaken.act(step)?;
        let loads = self.loads.as_ref().context("no load runs")?;
        loads.fresh.wait_more(BETWEEN, LIMIT)?;
        loads.kept.wait_more(BETWEEN, LIMIT)?;
        let after = self.seen()?;
        let (late_new, late_kept) = &mut self.late;
        self.unclear += allowed.check("new", &fresh, &after.0, FRESH, late_new)?;
        self.unclear += allowed.check("kept", &kept, &after.1, KEPT, late_kept)?;
        self.check()
    }

    fn seen(&self) -> Result<(crate::load::Outcome, crate::load::Outcome)> {
        let loads = self.loads.as_ref().context("no load runs")?;
        Ok((loads.fresh.so_far(), loads.kept.so_far()))
    }

    fn begin_loads(&mut self, time: Duration) -> Result<()> {
        let endless = |plan: Plan| Plan {
            max_requests: u64::MAX,
            max_duration: time + Duration::from_mins(10),
            ..plan
        };
        let plan = Plan::new(self.shaken.target());
        let fresh = self
            .shaken
            .host()
            .load(endless(plan.clone().workers(FRESH)))?;
        let kept = endless(plan.workers(KEPT).keep_alive());
        let kept = self.shaken.host().load(kept)?;
        fresh.wait_more(BETWEEN, LIMIT)?;
        kept.wait_more(BETWEEN, LIMIT)?;
        self.loads = Some(Loads { fresh, kept });
        Ok(())
    }

    /// The loads stop, what is left of former steps ends, and everything is counted.
    fn rest(&mut self) -> Result<()> {
        let loads = self.loads.take().context("no load runs")?;
        for outcome in [loads.fresh.stop()?, loads.kept.stop()?] {
            self.connected += outcome.connections;
            self.summary.load(&outcome);
        }
        self.check_rest()
    }
}
