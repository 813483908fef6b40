//! What outlives the agent in user space. (What outlives it in the kernel is pinned: `datapath`.)

mod ledger;
mod ledger_file;
mod tally;

pub mod journal;

pub use hotlb_core::outside::{Origin, Outside};
pub use journal::Journal;
pub use ledger::{LEDGER_VERSION, Ledger, LedgerError, Remembered};
pub use ledger_file::LedgerFile;
pub use tally::{Durations, HookCounts, LastRollout, Tally, TracedDuration, WindowCounts};
