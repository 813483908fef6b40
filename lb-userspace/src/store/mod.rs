//! What outlives the agent in user space. (What outlives it in the kernel is pinned: `datapath`.)

mod ledger;
mod outside;
mod tally;

pub mod journal;

pub use journal::Journal;
pub use ledger::{LEDGER_VERSION, Ledger, LedgerError, Remembered};
pub use outside::{Origin, Outside};
pub use tally::{Durations, HookCounts, LastRollout, Tally, TracedDuration, WindowCounts};
