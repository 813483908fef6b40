//! How slow the machine may be: `HOTLB_TEST_PATIENCE=N` makes every deadline of the harness N times as long.
//!
//! For emulated processors (`cargo xtask vm`). What is expected stays the same, but for the time in which it happens.

use std::{sync::OnceLock, time::Duration};

use crate::load::SLOW;

/// The variable; a whole number from 1 to [`MOST`], 1 if it is not set or is none.
const VARIABLE: &str = "HOTLB_TEST_PATIENCE";
/// More than a hundredfold is no slow machine but a broken one.
const MOST: u32 = 100;
/// A SYN that was lost is sent again after a second: whatever the patience, that must be seen.
const LESS_THAN_A_RESEND: Duration = Duration::from_millis(950);

/// The factor, 1 on an ordinary machine.
pub fn factor() -> u32 {
    static FACTOR: OnceLock<u32> = OnceLock::new();
    *FACTOR.get_or_init(|| parse(std::env::var(VARIABLE).ok().as_deref()))
}

/// A deadline, as long as this machine needs it.
pub fn of(limit: Duration) -> Duration {
    limit.saturating_mul(factor())
}

/// [`SLOW`] on this machine: never so long that a lost packet would go unseen.
pub fn slow() -> Duration {
    of(SLOW).min(LESS_THAN_A_RESEND)
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
