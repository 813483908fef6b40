//! Durations in the buckets of Prometheus' native histograms of schema 3: eight for each power of
//! two of a second, each 2^(1/8) (9.05 %) as long as the one before it. So what the kernel counts
//! is shown as it is, and the end of a bucket is at most 9.05 % above any value in it.

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

/// Where the buckets begin: the first one, from 0, ends at 2^-20 s (954 ns).
pub const LOWEST: i32 = -20 * 8;

/// Buckets of a histogram: the first one, then eight for each power of two of a second up to 2^20 s
/// (12 days). What is longer is in the last one.
pub const BUCKETS: usize = 1 + 40 * 8;

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

/// The ends of buckets as a duration in nanoseconds meets them whose highest bit is moved to bit
/// 63, rounded down: 10^9 * 2^(k/8) for k from 1 to 8, times whatever power of two. They are the
/// same between any two powers of two of nanoseconds, the last one at whole powers of seconds.
const ENDS: [u64; 8] = [
    0x81ff_a7a9_549c_a6e3,
    0x8dc3_b896_0164_a7d9,
    0x9a98_6705_4d51_2391,
    0xa896_5f74_bf06_5071,
    0xb7d8_8a12_d0dd_9ea0,
    0xc87c_3e7d_03cd_bec3,
    0xdaa1_7c2c_d195_55db,
    0xee6b_2800_0000_0000,
];

/// [`ENDS`] from 1 ns to the end of the first bucket.
const BELOW_FIRST: usize = 9 * 8 + 7;

/// The bucket of a duration in nanoseconds. A bucket's end is part of it.
#[inline(always)]
pub const fn bucket(nanoseconds: u64) -> usize {
    if nanoseconds == 0 {
        return 0;
    }
    let power = nanoseconds.ilog2();
    let mantissa = nanoseconds << (63 - power);
    let [one, two, three, four, five, six, seven, eight] = ENDS;
    let above = (mantissa > one) as usize
        + (mantissa > two) as usize
        + (mantissa > three) as usize
        + (mantissa > four) as usize
        + (mantissa > five) as usize
        + (mantissa > six) as usize
        + (mantissa > seven) as usize
        + (mantissa > eight) as usize;
    let bucket = (power as usize * 8 + above).saturating_sub(BELOW_FIRST);
    if bucket < BUCKETS {
        bucket
    } else {
        BUCKETS - 1
    }
}

/// The longest duration in a bucket, in whole nanoseconds.
pub const fn bucket_end(bucket: usize) -> u64 {
    let end = bucket + BELOW_FIRST;
    let [one, two, three, four, five, six, seven, eight] = ENDS;
    let mantissa = match end % 8 {
        0 => one,
        1 => two,
        2 => three,
        3 => four,
        4 => five,
        5 => six,
        6 => seven,
        _ => eight,
    };
    let power = end / 8;
    if power < 64 {
        mantissa >> (63 - power)
    } else {
        u64::MAX
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    /// Where Prometheus has a bucket of schema 3 end, in nanoseconds.
    fn end_of_schema_3(bucket: usize) -> f64 {
        let index = i32::try_from(bucket).unwrap() + LOWEST;
        1e9 * (f64::from(index) / 8.0).exp2()
    }

    #[test]
    fn buckets_are_those_of_schema_3() {
        for found in 0..BUCKETS {
            let (end, wanted) = (bucket_end(found), end_of_schema_3(found));
            #[expect(clippy::cast_precision_loss, reason = "that is what is allowed for")]
            let apart = wanted - end as f64;
            assert!(
                apart > -wanted * 1e-14 && apart < 1.0 + wanted * 1e-14,
                "{found}"
            );
        }
    }

    #[test]
    fn every_value_lies_in_its_bucket() {
        let mut value = 0_u64;
        while value < 1 << 49 {
            for value in [value.saturating_sub(1), value, value + 1] {
                let found = bucket(value);
                let below = found == 0 || bucket_end(found - 1) < value;
                assert!(below && value <= bucket_end(found), "{value}");
            }
            value += value / 97 + 1;
        }
        for found in 0..BUCKETS - 1 {
            assert_eq!(bucket(bucket_end(found)), found);
            assert_eq!(bucket(bucket_end(found) + 1), found + 1);
        }
    }

    #[test]
    fn whole_powers_of_a_second_end_buckets() {
        let middle = usize::try_from(-LOWEST).unwrap();
        assert_eq!(bucket_end(middle), 1_000_000_000);
        assert_eq!(bucket_end(middle + 8), 2_000_000_000);
        assert_eq!(bucket_end(middle - 8), 500_000_000);
    }

    #[test]
    fn what_is_too_long_is_in_the_last_one() {
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert_eq!(bucket(bucket_end(BUCKETS - 1) + 1), BUCKETS - 1);
        assert_eq!((bucket(0), bucket(1), bucket(953)), (0, 0, 0));
        assert_eq!(bucket(954), 1);
    }

    #[test]
    fn rows_are_apart() {
        assert_eq!(Latency::QueueWait.row(127), 127);
        assert_eq!(Latency::ServiceTime.row(0), 128);
        assert_eq!(Latency::Lifetime.row(127), 383);
    }
}
