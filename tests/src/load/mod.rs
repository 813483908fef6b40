//! The closed loop: clients that ask again as soon as they are answered, and count everything.

mod outcome;
mod plan;
mod times;
mod worker;

use std::{
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};

use self::worker::Shared;
pub use self::{
    outcome::Outcome,
    plan::{Plan, Reuse, SLOW},
    times::Times,
};
use crate::{netns::Netns, wait};

/// A load under way; stopped when dropped.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
    started: Instant,
}

impl Load {
    /// Starts the workers of `plan` on one thread inside the namespace.
    pub fn start(netns: &Netns, plan: Plan) -> Result<Self> {
        let shared = Arc::new(Shared::new(plan));
        let workers = Arc::clone(&shared);
        let thread = netns.spawn("load", move || worker::run(&workers))?;
        Ok(Self {
            shared,
            thread: Some(thread),
            started: Instant::now(),
        })
    }

    /// What has been counted so far.
    pub fn so_far(&self) -> Outcome {
        self.shared.outcome()
    }

    /// Waits until `count` more requests have been answered than were when this was called.
    pub fn wait_more(&self, count: u64, limit: Duration) -> Result<()> {
        let goal = self.so_far().ok + count;
        self.wait_for(&format!("{count} more answers"), limit, |outcome| {
            outcome.ok >= goal
        })
    }

    /// Waits until what has been counted satisfies `condition`.
    pub fn wait_for(
        &self,
        what: &str,
        limit: Duration,
        condition: impl Fn(&Outcome) -> bool,
    ) -> Result<()> {
        wait::until_true(what, limit, || condition(&self.so_far()))
            .with_context(|| format!("the load: {:#?}", self.so_far()))
    }

    /// Lets every worker finish the request it is at, and gives the final count.
    pub fn stop(mut self) -> Result<Outcome> {
        self.shared.stop();
        self.join()?;
        let mut outcome = self.so_far();
        outcome.took = self.started.elapsed();
        Ok(outcome)
    }

    fn join(&mut self) -> Result<()> {
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        thread
            .join()
            .map_err(|panic| anyhow!("the load panicked: {panic:?}"))?
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop();
        if let Err(error) = self.join() {
            crate::report::remark(format!("the load failed: {error:#}"));
        }
    }
}
