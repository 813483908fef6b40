//! What outlives the agent in user space. (What outlives it in the kernel is pinned: `datapath`.)

mod ledger;
mod ledger_file;
mod outside;
mod tally;

pub mod journal;

pub use journal::Journal;
pub use ledger::{LEDGER_VERSION, Ledger, LedgerError, Remembered};
pub use ledger_file::LedgerFile;
pub use outside::{Origin, Outside};
pub use tally::{Durations, HookCounts, LastRollout, Tally, TracedDuration, WindowCounts};
