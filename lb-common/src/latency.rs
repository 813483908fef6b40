//! Durations in log-linear histograms: eight buckets for each power of two of microseconds (of
//! 1,024 ns), so a bucket is at most an eighth wider than it is long, and its middle at most 6.25 %
//! from any value in it.

use crate::SEATS;

/// What is measured of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Latency {
    /// From the handshake to the first byte that the server reads: the accept queue, and the
    /// client's own first words.
    QueueWait = 0,
    /// From the first byte of a request that the server reads to the first byte of its answer.
    ServiceTime = 1,
    /// From the handshake to the end of the connection.
    Lifetime = 2,
}

/// How many of them there are.
pub const LATENCIES: usize = 3;

/// Buckets of a histogram: below 8 us one for each microsecond, then eight for each power of two
/// up to 2^36 us (19 hours).
pub const BUCKETS: usize = 8 + 33 * 8;

/// Words of a histogram: its buckets, then the sum of its values in nanoseconds.
pub const HISTOGRAM_WORDS: usize = BUCKETS + 1;

impl Latency {
    /// All of them.
    pub const ALL: [Self; LATENCIES] = [Self::QueueWait, Self::ServiceTime, Self::Lifetime];

    /// The row of a generation's histogram in the table.
    #[inline(always)]
    pub const fn row(self, seat: u32) -> u32 {
        self as u32 * SEATS + seat
    }
}

/// The bucket of a duration in nanoseconds.
#[inline(always)]
pub const fn bucket(nanoseconds: u64) -> usize {
    let units = nanoseconds >> 10;
    if units < 8 {
        return units as usize;
    }
    let power = units.ilog2();
    let eighth = (units >> (power - 3)) & 7;
    let bucket = (power as usize - 2) * 8 + eighth as usize;
    if bucket < BUCKETS {
        bucket
    } else {
        BUCKETS - 1
    }
}

/// Where a bucket ends, in nanoseconds; not part of it.
pub const fn bucket_end(bucket: usize) -> u64 {
    let next = bucket as u64 + 1;
    if next < 8 {
        return next << 10;
    }
    let power = next / 8 + 2;
    let eighth = next % 8;
    (8 + eighth) << (power - 3) << 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket() {
        let mut value = 1_u64;
        while value < 1 << 45 {
            let found = bucket(value);
            let begin = if found == 0 { 0 } else { bucket_end(found - 1) };
            assert!(begin <= value && value < bucket_end(found), "{value}");
            value += value / 7 + 1;
        }
    }

    #[test]
    fn the_middle_of_a_bucket_is_near_every_value_in_it() {
        for found in 8..BUCKETS {
            let begin = bucket_end(found - 1);
            let width = bucket_end(found) - begin;
            assert!(width * 8 <= begin, "{found}");
        }
    }

    #[test]
    fn what_is_too_long_is_in_the_last_one() {
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert_eq!(bucket(bucket_end(BUCKETS - 1)), BUCKETS - 1);
        assert_eq!(bucket(bucket_end(BUCKETS - 1) - 1), BUCKETS - 1);
    }

    #[test]
    fn rows_are_apart() {
        assert_eq!(Latency::QueueWait.row(63), 63);
        assert_eq!(Latency::ServiceTime.row(0), 64);
        assert_eq!(Latency::Lifetime.row(63), 191);
    }
}
