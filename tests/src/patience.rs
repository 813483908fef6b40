//! How slow the machine may be: `HOTLB_TEST_PATIENCE=N` makes every deadline of the harness N times as long.
//!
//! For emulated processors (`cargo xtask vm`). What is expected stays the same, but for the time in which it happens.

use std::{sync::OnceLock, time::Duration};

use crate::load::SLOW;

/// The variable; a whole number from 1 to [`MOST`], 1 if it is not set or is none.
const VARIABLE: &str = "HOTLB_TEST_PATIENCE";
/// More than a hundredfold is no slow machine but a broken one.
const MOST: u32 = 100;
/// A load of fewer requests shows nothing.
const LEAST: u64 = 500;

/// The factor, 1 on an ordinary machine.
pub fn factor() -> u32 {
    static FACTOR: OnceLock<u32> = OnceLock::new();
    *FACTOR.get_or_init(|| parse(std::env::var(VARIABLE).ok().as_deref()))
}

/// A deadline, as long as this machine needs it.
pub fn of(limit: Duration) -> Duration {
    limit.saturating_mul(factor())
}

/// A load of so many requests, as large as this machine has time for: a slow one asks fewer of them, not for longer.
pub fn requests(count: u64) -> u64 {
    (count / u64::from(factor())).max(count.min(LEAST))
}

/// [`SLOW`] on this machine. With patience a SYN that is sent again after a second is no longer told from a slow
/// machine: what is refused, reset or not answered at all is still seen, a dropped packet is not.
pub fn slow() -> Duration {
    of(SLOW)
}

fn parse(stated: Option<&str>) -> u32 {
    let stated = stated.and_then(|text| text.parse().ok());
    stated.unwrap_or(1).clamp(1, MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_no_patience() {
        for (stated, factor) in [
            (None, 1),
            (Some("x"), 1),
            (Some("0"), 1),
            (Some("8"), 8),
            (Some("5000"), 100),
        ] {
            assert_eq!(parse(stated), factor, "{stated:?}");
        }
    }
}
