//! The only place that reads time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Monotonic time, for deadlines and durations.
pub fn now() -> Instant {
    Instant::now()
}

/// Seconds since 1970, for people and records.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Time since the host started, time asleep included: the clock of the kernel programs.
pub fn since_boot() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

/// A moment after which a wait is over.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// The moment `duration` from now.
    pub fn after(duration: Duration) -> Self {
        Self(now() + duration)
    }

    /// What is left, or `None` when it is over.
    pub fn left(self) -> Option<Duration> {
        self.0
            .checked_duration_since(now())
            .filter(|left| !left.is_zero())
    }

    /// The moment, for `tokio::time::timeout_at`.
    pub fn instant(self) -> tokio::time::Instant {
        self.0.into()
    }
}
