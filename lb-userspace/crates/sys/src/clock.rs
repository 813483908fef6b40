//! The only place that reads time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Monotonic time, for deadlines and durations.
pub fn now() -> Instant {
    Instant::now()
}

/// Time since the host was started, the time it slept included (`CLOCK_BOOTTIME`): it means the
/// same to every agent of one boot, and nobody can set it.
pub fn since_boot() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(
        time.tv_sec.try_into().unwrap_or_default(),
        time.tv_nsec.try_into().unwrap_or_default(),
    )
}

/// Time by `CLOCK_MONOTONIC`, which kernel programs write down.
pub fn monotonic() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(
        time.tv_sec.try_into().unwrap_or_default(),
        time.tv_nsec.try_into().unwrap_or_default(),
    )
}

/// Milliseconds since 1970, for people and records: this clock jumps, so nothing is decided by it.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn unix_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

/// [`unix_millis`] of a moment that was a while ago.
pub fn unix_millis_at(moment: Instant) -> i64 {
    let ago = now().saturating_duration_since(moment).as_millis();
    unix_millis().saturating_sub(i64::try_from(ago).unwrap_or(i64::MAX))
}

/// A duration in whole milliseconds, for records and answers.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// CPU time this process has used, with all its threads.
pub fn own_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(
        time.tv_sec.try_into().unwrap_or_default(),
        time.tv_nsec.try_into().unwrap_or_default(),
    )
}

/// Longer than anything is waited for. What people write to say "for ever" is often a number that
/// no sum with another one has room for.
pub const FOR_EVER: Duration = Duration::from_hours(100 * 365 * 24);

/// A moment after which a wait is over.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// The moment `duration` from now.
    pub fn after(duration: Duration) -> Self {
        Self::since(now(), duration)
    }

    /// The moment `duration` after another one.
    pub fn since(moment: Instant, duration: Duration) -> Self {
        // A process does not live to see the difference, and a sum of less than this has room.
        let later = moment.checked_add(duration.min(FOR_EVER));
        Self(later.unwrap_or(moment))
    }

    /// What is left, or `None` when it is over.
    pub fn left(self) -> Option<Duration> {
        self.0
            .checked_duration_since(now())
            .filter(|left| !left.is_zero())
    }

    /// The later of two.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self(self.0.max(other.0))
    }

    /// The earlier of two.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Self(self.0.min(other.0))
    }

    /// The moment, for `tokio::time::timeout_at`.
    pub fn instant(self) -> tokio::time::Instant {
        self.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn for_ever_is_a_deadline_too() {
        for duration in [Duration::MAX, Duration::from_secs(u64::MAX), FOR_EVER] {
            let left = Deadline::after(duration).left().unwrap();
            let minute = Duration::from_mins(1);
            assert!(left.saturating_add(minute) > FOR_EVER, "{left:?}");
            assert!(Deadline::since(now(), duration).left().is_some());
        }
        assert!(Deadline::after(Duration::ZERO).left().is_none());
    }
}
