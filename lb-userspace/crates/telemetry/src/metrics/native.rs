//! Native histograms: the kernel's own buckets, those of schema 3, without the empty ones.

use lb_common::LOWEST;
use prometheus_client::encoding::{NativeHistogram, NativeHistogramBuckets};

use crate::values::{Histogram, SHORTEST};

/// Eight buckets for each power of two.
const SCHEMA: i32 = 3;
/// So many empty buckets are written rather than a span more.
const GAP: i32 = 2;

/// The buckets of a histogram as they are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Native {
    /// In the bucket around zero.
    zero: u64,
    /// Buckets in a row: how many were left out before them, and how many there are.
    spans: Vec<(i32, u32)>,
    /// The count of each bucket, less that of the one before it.
    deltas: Vec<i64>,
}

impl Native {
    /// Of what was measured.
    pub(super) fn of(measured: &Histogram) -> Self {
        let mut native = Self::default();
        let mut buckets = measured.counts().iter().copied();
        native.zero = buckets.next().unwrap_or_default();
        // A bucket's index is that of its end.
        let mut next = 0;
        let mut last = 0;
        for (index, count) in (LOWEST + 1..).zip(buckets).filter(|&(_, count)| count > 0) {
            let mut gap = index - next;
            if gap > GAP || native.spans.is_empty() {
                native.spans.push((gap, 0));
                gap = 0;
            }
            for _ in 0..gap {
                native.push(&mut last, 0);
            }
            native.push(&mut last, count);
            next = index + 1;
        }
        native
    }

    fn push(&mut self, last: &mut i64, count: u64) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.deltas.push(count - *last);
        *last = count;
        if let Some((_, length)) = self.spans.last_mut() {
            *length += 1;
        }
    }

    /// As the encoder takes it.
    pub(super) fn encoded(&self) -> NativeHistogram<'_> {
        NativeHistogram {
            schema: SCHEMA,
            zero_threshold: SHORTEST,
            zero_count: self.zero,
            negative: NativeHistogramBuckets {
                spans: &[],
                deltas: &[],
            },
            positive: NativeHistogramBuckets {
                spans: &self.spans,
                deltas: &self.deltas,
            },
            created: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A histogram with these counts, by the index of schema 3.
    fn histogram(counts: &str) -> Histogram {
        serde_json::from_str(&format!("{{\"counts\":{counts}}}")).unwrap()
    }

    #[test]
    fn spans_leave_long_gaps_out_and_keep_short_ones() {
        let native = Native::of(&histogram(r#"{"-160":7,"-10":1,"-8":4,"0":2,"1":5}"#));
        assert_eq!(native.zero, 7);
        assert_eq!(native.spans, [(-10, 3), (7, 2)]);
        assert_eq!(native.deltas, [1, -1, 4, -2, 3]);
    }

    #[test]
    fn an_empty_one_has_no_bucket() {
        assert_eq!(Native::of(&Histogram::default()), Native::default());
    }
}
