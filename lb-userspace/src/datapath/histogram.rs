//! Log-linear histograms.

use std::time::Duration;

use lb_common::bucket_end;

/// Durations by [`lb_common::bucket`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: Vec<u64>,
    sum: Duration,
}

impl Histogram {
    /// Of the counts of the buckets, and the sum of all values in nanoseconds.
    pub(super) fn new(counts: impl Iterator<Item = u64>, sum: u64) -> Self {
        Self {
            counts: counts.collect(),
            sum: Duration::from_nanos(sum),
        }
    }

    /// The values that came since it was `former`.
    #[must_use]
    pub fn since(&self, former: &Self) -> Self {
        let former_counts = former.counts.iter().copied().chain(std::iter::repeat(0));
        let pairs = self.counts.iter().zip(former_counts);
        Self {
            counts: pairs.map(|(now, then)| now.saturating_sub(then)).collect(),
            sum: self.sum.saturating_sub(former.sum),
        }
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum.
    pub const fn sum(&self) -> Duration {
        self.sum
    }

    /// The value that `part` (0 to 1) of the values do not exceed, within 12.5 %: where its bucket
    /// ends. `None` without values.
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let count = self.count();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank within the count"
        )]
        let rank = ((count as f64 * part).ceil() as u64).clamp(1, count.max(1));
        let mut seen = 0;
        let bucket = self.counts.iter().position(|&inside| {
            seen += inside;
            seen >= rank
        })?;
        Some(Duration::from_nanos(bucket_end(bucket)))
    }

    /// How many values are below 2^`exponent` microseconds (of 1,024 ns); exponents from 3 on are
    /// ends of buckets.
    pub fn below(&self, exponent: u32) -> u64 {
        let end = 1_u64 << (exponent + 10);
        let inside = |&(bucket, _): &(usize, &u64)| bucket_end(bucket) <= end;
        let buckets = self.counts.iter().enumerate();
        buckets.take_while(inside).map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use lb_common::{BUCKETS, bucket};

    use super::*;

    fn of(values: &[u64]) -> Histogram {
        let mut counts = vec![0; BUCKETS];
        for &value in values {
            counts[bucket(value)] += 1;
        }
        Histogram::new(counts.into_iter(), values.iter().sum())
    }

    #[test]
    fn quantiles_are_within_an_eighth() {
        let histogram = of(&(1..=1000).map(|ms| ms * 1_000_000).collect::<Vec<_>>());
        assert_eq!(histogram.count(), 1000);
        for (part, wanted) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let found = histogram.quantile(part).unwrap().as_secs_f64() * 1000.0;
            assert!(
                found >= wanted && found <= wanted * 1.125,
                "{part}: {found}"
            );
        }
    }

    #[test]
    fn nothing_has_no_quantile() {
        assert_eq!(of(&[]).quantile(0.5), None);
    }

    #[test]
    fn powers_of_two_add_up() {
        let histogram = of(&[1, 8 << 10, 9 << 10, 1 << 20, 5 << 30]);
        assert_eq!(histogram.below(3), 1);
        assert_eq!(histogram.below(4), 3);
        assert_eq!(histogram.below(30), 5);
    }
}
