//! Where a verb says what it is doing.

use std::sync::{Arc, OnceLock};

use tokio::sync::mpsc::UnboundedSender;

use crate::api::wire::{Done, Progress};

/// Passes progress on to whoever asked for it, if they still listen.
#[derive(Clone, Debug)]
pub struct Reporter {
    listener: Option<UnboundedSender<Progress>>,
    fulfilled: Fulfilled,
}

/// What a verb answers if the agent is replaced while it only waits. Empty: it has work to do that
/// nobody else could go on with.
pub type Fulfilled = Arc<OnceLock<Done>>;

impl Reporter {
    /// Reports to `listener`.
    pub fn to(listener: UnboundedSender<Progress>) -> Self {
        Self {
            listener: Some(listener),
            fulfilled: Fulfilled::default(),
        }
    }

    /// Reports to nobody.
    pub fn silent() -> Self {
        Self {
            listener: None,
            fulfilled: Fulfilled::default(),
        }
    }

    /// What was asked for is true now, and `done` says so; what follows is waiting for what any
    /// agent goes on with, such as a drain. The agent can be upgraded meanwhile.
    pub fn only_waits(&self, done: &Done) {
        // Only the first one counts.
        let _second = self.fulfilled.set(done.clone());
    }

    /// What [`Reporter::only_waits`] says, now and later.
    pub fn fulfilled(&self) -> Fulfilled {
        Arc::clone(&self.fulfilled)
    }

    /// Says what is being done.
    pub fn step(&self, step: impl Into<String>) {
        self.send(step.into(), None);
    }

    /// Says how many connections are waited for.
    pub fn remaining(&self, step: impl Into<String>, remaining: u64) {
        self.send(step.into(), Some(remaining));
    }

    fn send(&self, step: String, remaining: Option<u64>) {
        if let Some(listener) = &self.listener {
            // Whoever asked has gone; what they asked for is done all the same.
            let _gone = listener.send(Progress { step, remaining });
        }
    }
}
