//! When the choice by open connections is worth its cost: what `workers = "auto"` does. Pure.

use std::time::Duration;

use lb_common::Workers;

/// Uneven looks of the newest [`LOOKS`] that are enough.
const ENOUGH: u32 = 3;
const LOOKS: u32 = 10;
/// How long nothing must wait before the hash is taken again.
const QUIET: Duration = Duration::from_mins(10);

/// What was seen of the queues of the active generation's listeners, a look a second.
///
/// As long as nobody waits, or all queues are alike, the hash does as well as any choice and
/// costs nothing. A client who waits while another listener's queue is empty would not have had
/// to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evenness {
    /// A bit a look, the newest lowest: whether it was uneven.
    uneven: u32,
    /// Since when [`Workers::Least`] is taken and somebody waited last.
    waited: Option<Duration>,
}

impl Evenness {
    /// Takes a look at the queues at `now`; says what to choose by from now on.
    pub fn look(&mut self, now: Duration, queues: impl Iterator<Item = u32> + Clone) -> Workers {
        let longest = queues.clone().max().unwrap_or(0);
        let is_uneven = longest > 0 && queues.min() == Some(0);
        self.uneven = (self.uneven << 1 | u32::from(is_uneven)) & ((1 << LOOKS) - 1);
        if self.uneven.count_ones() >= ENOUGH || self.waited.is_some() && longest > 0 {
            self.waited = Some(now);
        }
        if self
            .waited
            .is_some_and(|waited| now.saturating_sub(waited) >= QUIET)
        {
            self.waited = None;
        }
        match self.waited {
            Some(_) => Workers::Least,
            None => Workers::Hash,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks once a second; what it chooses by in the end.
    fn looks<const N: usize>(queues: &[[u32; N]]) -> Workers {
        let mut evenness = Evenness::default();
        let mut chosen = Workers::Hash;
        for (second, queues) in (0..).zip(queues) {
            chosen = evenness.look(Duration::from_secs(second), queues.iter().copied());
        }
        chosen
    }

    #[test]
    fn queues_that_are_empty_or_alike_need_no_choice() {
        assert_eq!(looks(&[[0, 0, 0]; 30]), Workers::Hash);
        assert_eq!(looks(&[[5, 4, 6]; 30]), Workers::Hash);
        assert_eq!(looks(&[[5]; 30]), Workers::Hash);
        assert_eq!(looks(&[[]; 30]), Workers::Hash);
    }

    #[test]
    fn waiting_beside_an_empty_queue_thrice_in_ten_looks_is_enough() {
        let twice = [[3, 0], [0, 0], [1, 0]];
        assert_eq!(looks(&twice), Workers::Hash);
        assert_eq!(looks(&[&twice[..], &[[0, 2]]].concat()), Workers::Least);
        let later = [&twice[..], &[[0, 0]; 10], &[[0, 2]]].concat();
        assert_eq!(looks(&later), Workers::Hash);
    }

    #[test]
    fn it_stays_until_nobody_has_waited_for_ten_minutes() {
        let uneven = [[3, 0]; 3];
        let quiet = |seconds| [uneven.to_vec(), vec![[0, 0]; seconds]].concat();
        assert_eq!(looks(&quiet(599)), Workers::Least);
        assert_eq!(looks(&quiet(612)), Workers::Hash);
        let waited = [quiet(500), vec![[1, 1]], vec![[0, 0]; 500]].concat();
        assert_eq!(looks(&waited), Workers::Least);
    }
}
