//! Robust statistics: half of the values may be wrong without a change.
//!
//! Median and median absolute deviation (MAD), not a mean or an exponentially weighted one: what
//! was unusual stays among the past values, and a mean would learn from it. They need no rate of
//! forgetting to be chosen, and 120 values are sorted in a few microseconds.

/// What is usual.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Usual {
    /// The value in the middle.
    pub(super) median: f64,
    /// As many standard deviations wide as normal values with this MAD have.
    pub(super) deviation: f64,
}

/// A normal distribution's standard deviation, in MADs.
const TO_DEVIATION: f64 = 1.4826;

impl Usual {
    /// That of `values`; `None` without any. They come back in another order.
    pub(super) fn of(values: &mut [f64]) -> Option<Self> {
        let median = median(values)?;
        for value in values.iter_mut() {
            *value = (*value - median).abs();
        }
        Some(Self {
            median,
            deviation: TO_DEVIATION * self::median(values)?,
        })
    }
}

fn median(values: &mut [f64]) -> Option<f64> {
    let middle = values.len() / 2;
    if values.is_empty() {
        return None;
    }
    let (_, found, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    Some(*found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_of_wrong_values_changes_little() {
        let mut right: Vec<f64> = (0..20).map(|n| 10.0 + f64::from(n % 5)).collect();
        let usual = Usual::of(&mut right.clone()).unwrap();
        assert!((usual.median - 12.0).abs() < 1e-9, "{usual:?}");
        right.extend([1000.0; 8]);
        let disturbed = Usual::of(&mut right).unwrap();
        assert!(disturbed.median <= 14.0 && disturbed.deviation < 4.0);
        assert_eq!(Usual::of(&mut []), None);
    }
}
