//! When connections opened: a table without allocation, written once a connection.
//!
//! A connection's row is the rest of its cookie, so a newer connection takes the row of an older
//! one, and nothing needs to be removed. The kernel counts cookies up (in steps of 4096 for each
//! CPU, `gen_cookie_next`), so the newest [`AGES`] connections of the host, roughly, have a row.

/// Rows of the table: connections whose age is known at most. A power of two. The table takes 16
/// bytes for each of them when it is made: 1 MiB a service.
pub const AGES: usize = 1 << 16;

/// Words of a row: the cookie, and when its connection opened in nanoseconds of `CLOCK_BOOTTIME`.
pub const AGE_WORDS: usize = 2;

/// The row of a connection.
#[inline(always)]
pub const fn age_row(cookie: u64) -> u32 {
    (cookie % AGES as u64) as u32
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    #[test]
    fn neighbours_do_not_share_a_row() {
        let rows: std::collections::HashSet<_> =
            (1_000_000..1_000_000 + AGES as u64).map(age_row).collect();
        assert_eq!(rows.len(), AGES);
        assert!(rows.iter().all(|&row| (row as usize) < AGES));
    }
}
