//! When a drain will be over, judged by how fast connections left so far.

use std::time::Duration;

/// The time a drain still needs: of `initially` connections, `left` are left after `elapsed`.
/// `None` while nothing can be said. Connections that end independently of each other become
/// fewer by the same share in the same time; the last of them is expected when that curve falls
/// below half a connection.
pub fn remaining(initially: u64, left: u64, elapsed: Duration) -> Option<Duration> {
    if left == 0 {
        return Some(Duration::ZERO);
    }
    if left >= initially || elapsed.is_zero() {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let (initially, left) = (initially as f64, left as f64);
    let per_second = (initially / left).ln() / elapsed.as_secs_f64();
    Duration::try_from_secs_f64((left / 0.5).ln() / per_second).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_that_halves_every_second_is_predicted() {
        let left = remaining(64, 16, Duration::from_secs(2)).unwrap();
        // 16, 8, 4, 2, 1, 1/2.
        assert!((left.as_secs_f64() - 5.0).abs() < 1e-9);
    }

    #[test]
    fn nothing_is_said_before_anybody_left() {
        assert_eq!(remaining(5, 5, Duration::from_secs(1)), None);
        assert_eq!(remaining(5, 7, Duration::from_secs(1)), None);
        assert_eq!(remaining(5, 4, Duration::ZERO), None);
        assert_eq!(remaining(5, 0, Duration::ZERO), Some(Duration::ZERO));
    }
}
