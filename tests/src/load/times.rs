//! How long requests took.

use std::{fmt, time::Duration};

use hdrhistogram::Histogram;

/// Durations of a microsecond to a minute, each within 1 %.
#[derive(Clone, Default)]
pub struct Times(Option<Histogram<u64>>);

impl Times {
    /// What `part` (0 to 1) of them do not exceed; zero without any.
    pub fn quantile(&self, part: f64) -> Duration {
        let of = |times: &Histogram<u64>| Duration::from_micros(times.value_at_quantile(part));
        self.0.as_ref().map(of).unwrap_or_default()
    }

    pub(super) fn record(&mut self, took: Duration) {
        if self.0.is_none() {
            self.0 = Histogram::new_with_bounds(1, 60_000_000, 2).ok();
        }
        if let Some(times) = &mut self.0 {
            times.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        }
    }
}

impl fmt::Debug for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|part| self.quantile(part));
        write!(f, "p50 {p50:?}, p99 {p99:?}, p99.9 {p999:?}")
    }
}
