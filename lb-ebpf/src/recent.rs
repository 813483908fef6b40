//! The table of the newest connections.

use aya_ebpf::helpers::bpf_ktime_get_boot_ns;
use lb_common::{
    Latency, bucket,
    recent::{self as table, Said, Turn},
};

use crate::{
    atomic,
    maps::{HISTOGRAMS, LATENCY, RECENT, RECENTS},
};

/// A connection's row.
#[derive(Clone, Copy)]
pub struct Row(*mut u64);

impl Row {
    /// The row of the connection, which has to be in it.
    #[inline(always)]
    pub fn find(cookie: u64) -> Option<Self> {
        let row = Self::at(cookie)?;
        (row.load(table::COOKIE) == cookie).then_some(row)
    }

    /// Gives a connection that has just opened its row, over the one that had it before.
    #[inline(always)]
    pub fn open(cookie: u64, seat: u32) {
        let Some(row) = Self::at(cookie) else {
            return;
        };
        row.store(table::OPENED, now());
        row.store(table::ASKED, 0);
        row.turn(seat, Said::Nothing);
        // Last: who finds the cookie finds the rest.
        row.store(table::COOKIE, cookie);
    }

    /// The row of the connection in the table of the service that has the port in the key.
    #[inline(always)]
    pub fn find_at(key: u64, cookie: u64) -> Option<Self> {
        // SAFETY: entries are not reused while a program runs, since they are allocated singly; the
        // rows of the table are words that are read and written whole.
        let row = unsafe { RECENTS.get_value_ptr_mut(&key, &table::row(cookie)) }?;
        let row = Self(row.cast());
        (row.load(table::COOKIE) == cookie).then_some(row)
    }

    #[inline(always)]
    fn at(cookie: u64) -> Option<Self> {
        RECENT
            .get_ptr_mut(table::row(cookie))
            .map(|row| Self(row.cast()))
    }

    /// A word of it.
    #[inline(always)]
    pub fn load(self, index: usize) -> u64 {
        // SAFETY: callers name words of the row, which is aligned.
        unsafe { self.0.add(index).read_volatile() }
    }

    /// Writes a word of it.
    #[inline(always)]
    pub fn store(self, index: usize, value: u64) {
        // SAFETY: as in `load`.
        unsafe { self.0.add(index).write_volatile(value) }
    }

    /// Whose turn it was.
    #[inline(always)]
    pub fn last(self) -> Turn {
        Turn::from_bits(self.load(table::TURN))
    }

    /// Writes down what happened.
    #[inline(always)]
    pub fn turn(self, seat: u32, said: Said) {
        self.store(table::TURN, Turn { seat, said }.to_bits());
    }
}

/// The time now, in nanoseconds of `CLOCK_BOOTTIME`.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper only reads the clock.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// Counts a duration, in nanoseconds, for the generation at `seat`.
#[inline(always)]
pub fn observe(latency: Latency, seat: u32, nanoseconds: u64) {
    if let Some(histogram) = LATENCY.get_ptr_mut(latency.row(seat)) {
        add(histogram.cast(), nanoseconds);
    }
}

/// [`observe`] for the service that has the port in the key.
#[inline(always)]
pub fn observe_at(key: u64, latency: Latency, seat: u32, nanoseconds: u64) {
    // SAFETY: as in `find_at`.
    let histogram = unsafe { HISTOGRAMS.get_value_ptr_mut(&key, &latency.row(seat)) };
    if let Some(histogram) = histogram {
        add(histogram.cast(), nanoseconds);
    }
}

#[inline(always)]
fn add(histogram: *mut u64, nanoseconds: u64) {
    // Opaque: the compiler proves the bound from the duration, which the verifier does not follow,
    // and takes the check away.
    let bucket = core::hint::black_box(bucket(nanoseconds));
    if bucket >= lb_common::BUCKETS {
        return;
    }
    // SAFETY: both within the histogram, and aligned.
    unsafe {
        atomic::fetch_add(histogram.add(bucket), 1);
        atomic::fetch_add(histogram.add(lb_common::BUCKETS), nanoseconds);
    }
}
