//! How far a drain is.

use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

use crate::{
    api::wire::DrainStatus,
    clock::{self, Deadline, millis},
    rollout::predict,
};

/// What a drain waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::agent::service) enum DrainStep {
    /// The accept queues.
    Queues,
    /// Connections that end by themselves, or are asked to.
    Leaving,
    /// The server, which has been told to finish.
    Finishing,
    /// Connections that may stay longer.
    LongLived,
    /// A data store, which has been told to end and saves what it has.
    Saving,
}

impl DrainStep {
    const fn name(self) -> &'static str {
        match self {
            Self::Queues => "queues",
            Self::Leaving => "leaving",
            Self::Finishing => "finishing",
            Self::LongLived => "long_lived",
            Self::Saving => "saving",
        }
    }
}

/// A drain that goes on.
#[derive(Clone, Debug)]
pub(in crate::agent::service) struct Drain {
    /// When it began.
    began: Instant,
    /// The same, in time since the host was started: another agent goes by it too.
    since: Duration,
    /// Connections there were then.
    initially: u64,
    /// What it waits for.
    step: DrainStep,
    /// When what is left is ended.
    deadline: Deadline,
    /// The task that does it, until the generation is told to end.
    task: Option<AbortHandle>,
}

impl Drain {
    /// A drain that began at `since` (time since boot), with `initially` connections.
    pub(in crate::agent::service) fn begin(
        since: Duration,
        initially: u64,
        deadline: Duration,
        task: AbortHandle,
    ) -> Self {
        Self {
            step: DrainStep::Queues,
            task: Some(task),
            ..Self::found(since, initially, deadline)
        }
    }

    /// One that an earlier agent began at `since` (time since boot), and that nobody does now.
    pub(in crate::agent::service) fn found(
        since: Duration,
        initially: u64,
        deadline: Duration,
    ) -> Self {
        let now = clock::now();
        let passed = clock::since_boot().saturating_sub(since);
        let began = now.checked_sub(passed).unwrap_or(now);
        Self {
            began,
            since,
            initially,
            step: DrainStep::Finishing,
            deadline: Deadline::since(began, deadline),
            task: None,
        }
    }

    /// An end that was asked for, without a drain before it.
    pub(in crate::agent::service) fn end_now(initially: u64, deadline: Duration) -> Self {
        Self::found(clock::since_boot(), initially, deadline)
    }

    /// When it began.
    pub(in crate::agent::service) const fn began(&self) -> Instant {
        self.began
    }

    /// The same, in time since the host was started.
    pub(in crate::agent::service) const fn since(&self) -> Duration {
        self.since
    }

    /// When what is left is ended.
    pub(in crate::agent::service) const fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// Whether it waits for a data store that saves what it has.
    pub(super) fn saves(&self) -> bool {
        self.step == DrainStep::Saving
    }

    /// It waits for something else.
    pub(in crate::agent::service) const fn enter(&mut self, step: DrainStep) {
        self.step = step;
    }

    /// The same, and what is left is ended at another time.
    pub(super) const fn enter_until(&mut self, step: DrainStep, deadline: Deadline) {
        self.step = step;
        self.deadline = deadline;
    }

    /// Ends the task; what it has begun stays.
    pub(in crate::agent::service) fn abort(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }

    /// As `status` shows it, with `left` connections.
    pub(in crate::agent::service) fn status(&self, left: u64) -> DrainStatus {
        let elapsed = self.began.elapsed();
        let to_deadline = self.deadline.left().unwrap_or_default();
        let predicted = predict::remaining(self.initially, left, elapsed);
        DrainStatus {
            step: self.step.name().to_owned(),
            initially: self.initially,
            left,
            elapsed_ms: millis(elapsed),
            deadline_in_ms: millis(to_deadline),
            predicted_ms: predicted.map(|p| millis(p.min(to_deadline))),
        }
    }
}
