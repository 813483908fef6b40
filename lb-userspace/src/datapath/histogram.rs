//! Histograms with the buckets of Prometheus' schema 3.

use std::time::Duration;

use lb_common::{LOWEST, bucket_end};

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

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum.
    pub const fn sum(&self) -> Duration {
        self.sum
    }

    /// The value that `part` (0 to 1) of the values do not exceed, within 9.05 %: where its bucket
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

    /// How many values are not above 2^`exponent` seconds; exponents from -20 on are ends of
    /// buckets.
    pub fn until(&self, exponent: i32) -> u64 {
        let last = usize::try_from(exponent * 8 - LOWEST).ok();
        let until = last.map_or(0, |last| last + 1);
        self.counts.iter().take(until).sum()
    }

    /// The counts of its buckets, up to the last that has any. The first one is from 0 to
    /// [`SHORTEST`], each other one 2^(1/8) as long as the one before it.
    pub fn counts(&self) -> &[u64] {
        let used = self.counts.iter().rposition(|&count| count > 0);
        let used = used.and_then(|last| self.counts.get(..=last));
        used.unwrap_or_default()
    }
}

/// Where the first bucket ends, in seconds: 2^-20.
pub const SHORTEST: f64 = 1.0 / 1_048_576.0;

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
    fn quantiles_are_within_a_tenth() {
        let histogram = of(&(1..=1000).map(|ms| ms * 1_000_000).collect::<Vec<_>>());
        assert_eq!(histogram.count(), 1000);
        for (part, wanted) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let found = histogram.quantile(part).unwrap().as_secs_f64() * 1000.0;
            assert!(
                found >= wanted && found <= wanted * 1.0906,
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
        let second = 1_000_000_000;
        let histogram = of(&[1, 1_000, second / 4, second, second + 1, 5 * second]);
        assert_eq!(histogram.until(-21), 0);
        assert_eq!(histogram.until(-20), 1);
        assert_eq!(histogram.until(-2), 3);
        assert_eq!(histogram.until(0), 4);
        assert_eq!(histogram.until(3), 6);
        assert_eq!(histogram.counts().len(), 160 + 19 + 1);
    }
}
