//! Which of a generation's listeners take up what waits for them. Pure.

use std::{collections::BTreeMap, time::Duration};

/// What is seen of a listener at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The kernel's name for it.
    pub cookie: u64,
    /// Connections in its accept queue.
    pub queue: u32,
}

/// What is remembered of a generation's listeners from look to look.
///
/// A queue that does not fall although something is in it is one that nobody takes from, or one
/// that fills as fast: a look now and then cannot tell. It need not: a listener that leaves the
/// choice gets nothing more, so that its queue falls at the next look if its worker lives, and
/// it is back.
#[derive(Clone, Debug, Default)]
pub struct Progress(BTreeMap<u64, Waits>);

#[derive(Clone, Copy, Debug)]
struct Waits {
    queue: u32,
    since: Duration,
    hangs: bool,
}

impl Progress {
    /// Looks at all listeners, by group, at `now`. One whose queue has not fallen for `after`
    /// hangs until it does. None hangs as long as there is no other in its group that does not:
    /// then it is the server that hangs, and leaving the choice would help nobody.
    pub fn look(&mut self, now: Duration, groups: &[Vec<Seen>], after: Duration) {
        let all = || groups.iter().flatten();
        self.0
            .retain(|cookie, _| all().any(|seen| seen.cookie == *cookie));
        for seen in all() {
            self.note(now, *seen);
        }
        for group in groups {
            self.judge(now, group, after);
        }
    }

    fn note(&mut self, now: Duration, seen: Seen) {
        if seen.queue == 0 {
            self.0.remove(&seen.cookie);
            return;
        }
        let waits = self.0.entry(seen.cookie).or_insert(Waits {
            queue: seen.queue,
            since: now,
            hangs: false,
        });
        if seen.queue < waits.queue {
            waits.since = now;
        }
        waits.queue = seen.queue;
    }

    fn judge(&mut self, now: Duration, group: &[Seen], after: Duration) {
        let is_over = |waits: &Waits| now.saturating_sub(waits.since) >= after;
        let works = |seen: &Seen| !self.0.get(&seen.cookie).is_some_and(is_over);
        let others_work = group.iter().any(works);
        for seen in group {
            if let Some(waits) = self.0.get_mut(&seen.cookie) {
                waits.hangs = others_work && is_over(waits);
            }
        }
    }

    /// Whether this listener hangs.
    pub fn hangs(&self, cookie: u64) -> bool {
        self.0.get(&cookie).is_some_and(|waits| waits.hangs)
    }

    /// How long nothing was taken from this listener, if it hangs.
    pub fn hangs_for(&self, cookie: u64, now: Duration) -> Option<Duration> {
        let waits = self.0.get(&cookie).filter(|waits| waits.hangs)?;
        Some(now.saturating_sub(waits.since))
    }

    /// How many hang, and what waits in their queues.
    pub fn hung(&self) -> (usize, u32) {
        let hung = self.0.values().filter(|waits| waits.hangs);
        hung.fold((0, 0), |(count, queue), waits| {
            (count + 1, queue + waits.queue)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_secs(5);

    /// Looks once a second at listeners 1, 2, ... with these queues; the cookies that hang.
    fn looks<const N: usize>(seconds: &[[u32; N]]) -> Vec<u64> {
        let mut progress = Progress::default();
        for (second, queues) in (0..).zip(seconds) {
            progress.look(Duration::from_secs(second), &[seen(queues)], AFTER);
        }
        (1..=9).filter(|&cookie| progress.hangs(cookie)).collect()
    }

    fn seen(queues: &[u32]) -> Vec<Seen> {
        (1..)
            .zip(queues)
            .map(|(cookie, &queue)| Seen { cookie, queue })
            .collect()
    }

    #[test]
    fn one_that_takes_nothing_for_the_time_hangs() {
        let five = [[1, 0], [1, 0], [2, 1], [2, 0], [3, 0]];
        assert!(looks(&five).is_empty());
        assert_eq!(looks(&[&five[..], &[[3, 0]]].concat()), [1]);
    }

    #[test]
    fn one_that_took_something_does_not() {
        let taken = [[9, 0], [9, 0], [9, 0], [8, 0], [8, 0], [9, 0]];
        assert!(looks(&taken).is_empty());
    }

    #[test]
    fn it_is_back_with_the_first_it_takes() {
        let hangs = [[7, 0]; 8];
        assert_eq!(looks(&hangs), [1]);
        assert!(looks(&[&hangs[..], &[[6, 0]]].concat()).is_empty());
        assert!(looks(&[&hangs[..], &[[0, 0]]].concat()).is_empty());
    }

    #[test]
    fn a_server_that_hangs_as_a_whole_keeps_its_listeners() {
        assert!(looks(&[[7, 7]; 8]).is_empty());
        assert!(looks(&[[7]; 8]).is_empty());
    }

    #[test]
    fn each_group_needs_one_that_works() {
        let mut progress = Progress::default();
        let first = [(1, 4), (2, 4)].map(|(cookie, queue)| Seen { cookie, queue });
        let second = [(3, 4), (4, 0)].map(|(cookie, queue)| Seen { cookie, queue });
        for second_of in 0..=5 {
            let groups = [first.to_vec(), second.to_vec()];
            progress.look(Duration::from_secs(second_of), &groups, AFTER);
        }
        assert!(!progress.hangs(1) && !progress.hangs(2));
        assert!(progress.hangs(3) && !progress.hangs(4));
    }

    #[test]
    fn it_says_for_how_long() {
        let mut progress = Progress::default();
        for second in 2..=9 {
            progress.look(Duration::from_secs(second), &[seen(&[4, 0])], AFTER);
        }
        let now = Duration::from_secs(9);
        assert_eq!(progress.hangs_for(1, now), Some(Duration::from_secs(7)));
        assert_eq!(progress.hangs_for(2, now), None);
        assert_eq!(progress.hung(), (1, 4));
        progress.look(now, &[], AFTER);
        assert_eq!(progress.hung(), (0, 0));
    }
}
