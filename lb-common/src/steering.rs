//! The cells of a service's steering table: one memory-mapped row of eight 64-bit cells.

/// Cells in the row; one cache line.
pub const CELLS: usize = 8;

/// The [`SteeringWord`](crate::SteeringWord).
pub const WORD: usize = 0;
/// How many tickets are out; with none, `steer` does not look at addresses for them.
pub const TICKETS: usize = 1;
/// The salt of [`client_hash`](crate::client_hash).
pub const SALT: usize = 2;
/// How many connections ever moved from a closing listener; with none, `track` looks nothing up.
pub const MOVES: usize = 3;
/// [`ABI_VERSION`](crate::ABI_VERSION) of the agent that made the maps.
pub const ABI: usize = 4;
/// How the choice falls between a generation's listeners, see [`Workers`](crate::Workers).
pub const WORKERS: usize = 5;
/// Which object's programs decide: the beginning of its digest. 0: they were not all of one object
/// when this was stored, or an agent of layout 5 loaded them. [`BETWEEN`]: values were copied to new
/// maps, and programs are being led to those.
pub const OBJECT: usize = 6;

/// A value of [`OBJECT`] that is no digest.
pub const BETWEEN: u64 = u64::MAX;
/// When the agent last said that it runs, in nanoseconds of the monotonic clock; 0: it never did.
pub const BEAT: usize = 7;

/// How often the agent says so, in nanoseconds.
pub const BEATS: u64 = 100_000_000;
/// How old its word may be, in nanoseconds, for clients to wait for what only the agent can do.
const BEATEN: u64 = 4 * BEATS;
/// How long clients wait, in nanoseconds, for a process that closed its listener to open another.
pub const REOPENING: u64 = 200_000_000;

/// Whether a generation without a listener is about to have one: a process of it closed the last
/// one at `closed` (0: it ended instead) and runs on, and the agent, which hands over who waits, ran
/// at `beat`. All in nanoseconds of the monotonic clock.
#[inline(always)]
pub const fn is_reopening(closed: u64, beat: u64, now: u64) -> bool {
    // Clocks of other CPUs, and finer ones, may be ahead.
    closed != 0
        && now.saturating_sub(closed) < REOPENING
        && beat != 0
        && now.saturating_sub(beat) < BEATEN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_wait_for_a_process_that_lives_while_an_agent_runs() {
        let now = 10_000_000_000;
        assert!(is_reopening(now, now, now));
        assert!(is_reopening(now + 1, now + 1, now));
        assert!(is_reopening(now - REOPENING + 1, now - BEATEN + 1, now));
        assert!(!is_reopening(now - REOPENING, now, now));
        assert!(!is_reopening(now, now - BEATEN, now));
        assert!(!is_reopening(0, now, now) && !is_reopening(now, 0, now));
        assert!(!is_reopening(0, 0, 0));
    }
}
