//! What is known of the newest connections: a table without allocation, a row a connection.
//!
//! A connection's row is the rest of its cookie, so a newer connection takes the row of an older
//! one, and nothing needs to be removed. The kernel counts cookies up (in steps of 4096 for each
//! CPU, `gen_cookie_next`), so the newest [`ROWS`] connections of the host, roughly, have a row.

/// Rows of the table, a power of two. It takes 32 bytes for each of them when it is made: 1 MiB a
/// service.
pub const ROWS: usize = 1 << 15;

/// Words of a row.
pub const WORDS: usize = 4;

/// Word of a row: the connection's cookie, written last.
pub const COOKIE: usize = 0;
/// Word of a row: when the connection opened, in nanoseconds of `CLOCK_BOOTTIME`.
pub const OPENED: usize = 1;
/// Word of a row: its [`Turn`].
pub const TURN: usize = 2;
/// Word of a row: when the current request was first read, in nanoseconds of `CLOCK_BOOTTIME`.
pub const ASKED: usize = 3;

/// The row of a connection.
#[inline(always)]
pub const fn row(cookie: u64) -> u32 {
    (cookie % ROWS as u64) as u32
}

/// A port's bit in a set of 64: ports that are not of the service share it with one of the
/// service's in few cases, and their connections are then told apart by their cookie.
#[inline(always)]
pub const fn port_bit(port: u16) -> u64 {
    1 << (port % 64)
}

/// Whose turn it is on a connection, and whose connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The generation's seat.
    pub seat: u32,
    /// What happened last.
    pub said: Said,
}

/// What happened last on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Said {
    /// Nothing yet: the server has not read anything.
    Nothing = 0,
    /// The server has read a request, or some of it, and not begun to answer.
    Request = 1,
    /// The server has begun to answer.
    Answer = 2,
}

impl Turn {
    /// As it is in the row.
    #[inline(always)]
    pub const fn to_bits(self) -> u64 {
        self.seat as u64 | (self.said as u64) << 32
    }

    /// From the row.
    #[inline(always)]
    pub const fn from_bits(bits: u64) -> Self {
        Self {
            seat: bits as u32,
            said: match bits >> 32 {
                0 => Said::Nothing,
                1 => Said::Request,
                _ => Said::Answer,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "more than an interpreter gets through")]
    fn neighbours_do_not_share_a_row() {
        let rows: std::collections::HashSet<_> =
            (1_000_000..1_000_000 + ROWS as u64).map(row).collect();
        assert_eq!(rows.len(), ROWS);
        assert!(rows.iter().all(|&row| (row as usize) < ROWS));
    }

    #[test]
    fn a_turn_is_what_was_written() {
        for said in [Said::Nothing, Said::Request, Said::Answer] {
            let turn = Turn { seat: 63, said };
            assert_eq!(Turn::from_bits(turn.to_bits()), turn);
        }
    }
}
