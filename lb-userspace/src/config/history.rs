//! How much of the history is kept.

use std::time::Duration;

/// When a finished rollout is forgotten: as soon as one of the limits is exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// So many of the newest rollouts are kept, of all services together; 1 or more.
    pub rollouts: u32,
    /// For so long; more than nothing.
    pub age: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            rollouts: 1000,
            age: Duration::from_hours(90 * 24),
        }
    }
}
