//! When somebody who waits looks again for what changes without an event.

use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::Deadline;

/// Soon at first, then less often, until a deadline.
#[derive(Debug)]
pub(super) struct Pace {
    deadline: Deadline,
    next: Duration,
}

const FASTEST: Duration = Duration::from_micros(250);
const SLOWEST: Duration = Duration::from_millis(20);

impl Pace {
    pub(super) const fn until(deadline: Deadline) -> Self {
        Self {
            deadline,
            next: FASTEST,
        }
    }

    /// Waits for the next look, or until `changed` is rung. False once the deadline is over.
    pub(super) async fn wait(&mut self, changed: &Notify) -> bool {
        let Some(left) = self.deadline.left() else {
            return false;
        };
        let look = left.min(self.next);
        self.next = (self.next * 5 / 4).min(SLOWEST);
        // Either way it is time to look again.
        let _woken = tokio::time::timeout(look, changed.notified()).await;
        true
    }
}
