//! Where a verb says what it is doing.

use tokio::sync::mpsc::UnboundedSender;

use crate::api::wire::Progress;

/// Passes progress on to whoever asked for it, if they still listen.
#[derive(Clone, Debug)]
pub struct Reporter(Option<UnboundedSender<Progress>>);

impl Reporter {
    /// Reports to `listener`.
    pub fn to(listener: UnboundedSender<Progress>) -> Self {
        Self(Some(listener))
    }

    /// Reports to nobody.
    pub fn silent() -> Self {
        Self(None)
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
        if let Some(listener) = &self.0 {
            // Whoever asked has gone; what they asked for is done all the same.
            let _gone = listener.send(Progress { step, remaining });
        }
    }
}
