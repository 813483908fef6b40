//! How a generation is told to end: who serves, by which signal, when, and what came of it.

mod judge;
mod seen;
mod tell;

pub(super) use judge::{Endings, Judged, place, signal_of, signal_wait};
pub(super) use seen::cut_warnings;
