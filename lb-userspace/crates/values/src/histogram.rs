//! Histograms with the buckets of Prometheus' schema 3.

use std::{collections::BTreeMap, time::Duration};

use lb_common::{BUCKETS, LOWEST, bucket_end};
use serde::{Deserialize, Serialize};

/// Durations by [`lb_common::bucket`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Written", from = "Written")]
pub struct Histogram {
    counts: Vec<u64>,
    sum: Duration,
}

/// A histogram as it is written down: by the index of schema 3, only what is there.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Written {
    counts: BTreeMap<i32, u64>,
    sum: Duration,
}

impl From<Histogram> for Written {
    fn from(histogram: Histogram) -> Self {
        let counts = (LOWEST..).zip(histogram.counts);
        Self {
            counts: counts.filter(|&(_, count)| count > 0).collect(),
            sum: histogram.sum,
        }
    }
}

impl From<Written> for Histogram {
    fn from(written: Written) -> Self {
        let mut counts = vec![0; BUCKETS];
        for (index, count) in written.counts {
            // Another release may have had others.
            let bucket = index.clamp(LOWEST, LOWEST + LAST).abs_diff(LOWEST);
            if let Some(inside) = counts.get_mut(bucket as usize) {
                *inside += count;
            }
        }
        Self {
            counts,
            sum: written.sum,
        }
    }
}

/// The last bucket.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "some hundreds"
)]
const LAST: i32 = BUCKETS as i32 - 1;

impl Histogram {
    /// Of the counts of the buckets, and the sum of all values in nanoseconds.
    pub fn new(counts: impl Iterator<Item = u64>, sum: u64) -> Self {
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

    /// Adds the values of `other`.
    pub fn add(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (count, other) in self.counts.iter_mut().zip(&other.counts) {
            *count += other;
        }
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// The greatest of the values that came since it was `before`: the end of its bucket, in
    /// seconds.
    pub fn greatest_since(&self, before: &Self) -> Option<f64> {
        let former = before.counts.iter().copied().chain(std::iter::repeat(0));
        let grown = self.counts.iter().zip(former);
        let last = (LOWEST..)
            .zip(grown)
            .filter(|(_, (now, former))| *now > former);
        let (index, _) = last.last()?;
        Some((f64::from(index) / 8.0).exp2())
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

    /// The counts of its buckets. The first one, from 0, ends at [`SHORTEST`], and each one 2^(1/8)
    /// times as far as the one before it.
    pub fn counts(&self) -> &[u64] {
        &self.counts
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
    }

    #[test]
    fn what_is_written_down_is_read_again() {
        let mut histogram = of(&[1, 1 << 20, 1 << 63]);
        let text = serde_json::to_string(&histogram).unwrap();
        let read: Histogram = serde_json::from_str(&text).unwrap();
        assert_eq!(read, histogram);
        histogram.add(&read);
        assert_eq!((histogram.count(), histogram.until(0)), (6, 4));
        let other = r#"{"counts":{"-500":1,"500":2}}"#;
        let other: Histogram = serde_json::from_str(other).unwrap();
        assert_eq!((other.count(), other.until(-20)), (3, 1));
    }

    #[test]
    fn the_greatest_is_of_what_came_since() {
        let second = 1_000_000_000;
        let before = of(&[9 * second]);
        assert_eq!(before.greatest_since(&before), None);
        assert_eq!(
            before.greatest_since(&Histogram::default()),
            Some(2_f64.powf(3.25))
        );
        let mut after = before.clone();
        after.add(&of(&[second, 3]));
        assert_eq!(after.greatest_since(&before), Some(1.0));
    }
}
