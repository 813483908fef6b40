//! Whether a generation as a whole takes up what waits for it. Pure.

use std::time::Duration;

/// So many looks in a row, at least, in which nothing was taken: two moments say little of a
/// receive queue that fills as fast as it is read.
const LOOKS: u32 = 10;

/// What is remembered of a generation's queues from look to look.
#[derive(Clone, Copy, Debug, Default)]
pub struct Standstill(Option<Waits>);

#[derive(Clone, Copy, Debug)]
struct Waits {
    taken: i64,
    since: Duration,
    looks: u32,
    waiting: u64,
}

/// A generation that stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stands {
    /// For how long.
    pub for_: Duration,
    /// What waits: connections, or bytes of datagrams.
    pub waiting: u64,
}

impl Standstill {
    /// Connections: `opened` of them came so far, and `queue` of these wait. How many were taken is
    /// exact, however fast others come.
    pub fn connections(&mut self, now: Duration, opened: u64, queue: u64) {
        let taken = signed(opened) - signed(queue);
        // One look counts for many, for it counts what happened since the last.
        self.look(now, queue, taken, LOOKS);
    }

    /// Datagrams: `bytes` of them wait. That fewer wait than before is all that shows.
    pub fn datagrams(&mut self, now: Duration, bytes: u64) {
        self.look(now, bytes, -signed(bytes), 1);
        // More may have come.
        if let Some(waits) = &mut self.0 {
            waits.taken = -signed(bytes);
        }
    }

    fn look(&mut self, now: Duration, waiting: u64, taken: i64, weight: u32) {
        if waiting == 0 {
            self.0 = None;
            return;
        }
        match &mut self.0 {
            Some(waits) if taken <= waits.taken => {
                waits.looks = waits.looks.saturating_add(weight);
                waits.waiting = waiting;
            }
            waits => {
                *waits = Some(Waits {
                    taken,
                    since: now,
                    looks: 0,
                    waiting,
                });
            }
        }
    }

    /// Whether nothing was taken for `after`, although something waits.
    pub fn lasts(&self, now: Duration, after: Duration) -> Option<Stands> {
        let waits = self.0.as_ref()?;
        let for_ = now.saturating_sub(waits.since);
        (waits.looks >= LOOKS && for_ >= after).then_some(Stands {
            for_,
            waiting: waits.waiting,
        })
    }

    /// Whether it may stand still, so that it is worth a closer look.
    pub fn is_suspected(&self) -> bool {
        self.0.is_some()
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_secs(2);

    fn connections(seconds: &[(u64, u64)]) -> Option<Stands> {
        let mut still = Standstill::default();
        let mut now = Duration::ZERO;
        for &(opened, queue) in seconds {
            now += Duration::from_secs(1);
            still.connections(now, opened, queue);
        }
        still.lasts(now, AFTER)
    }

    #[test]
    fn who_takes_nobody_stands_still() {
        assert_eq!(connections(&[(5, 1), (6, 2)]), None);
        let stands = connections(&[(5, 1), (6, 2), (9, 5)]);
        let expected = Stands {
            for_: Duration::from_secs(2),
            waiting: 5,
        };
        assert_eq!(stands, Some(expected));
        // A queue that is full.
        assert!(connections(&[(9, 5), (9, 5), (9, 5)]).is_some());
    }

    #[test]
    fn who_takes_one_does_not_however_many_come() {
        assert_eq!(connections(&[(5, 1), (6, 2), (10, 5)]), None);
        assert_eq!(connections(&[(5, 1), (6, 2), (9, 5), (9, 4)]), None);
        assert_eq!(connections(&[(5, 1), (6, 2), (9, 5), (9, 0)]), None);
    }

    fn datagrams(bytes: &[u64]) -> Option<Stands> {
        let mut still = Standstill::default();
        let mut now = Duration::ZERO;
        for &bytes in bytes {
            now += Duration::from_millis(250);
            still.datagrams(now, bytes);
        }
        still.lasts(now, AFTER)
    }

    #[test]
    fn a_receive_queue_that_only_grows_stands_still() {
        let grows: Vec<u64> = (1..=12).map(|look| look * 700).collect();
        assert!(datagrams(&grows).is_some());
        assert_eq!(datagrams(&grows[..8]), None);
        assert!(datagrams(&[700; 12]).is_some());
        assert_eq!(datagrams(&[&grows[..], &[700]].concat()), None);
        assert_eq!(datagrams(&[&grows[..], &[0]].concat()), None);
    }
}
