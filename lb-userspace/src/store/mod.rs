//! What outlives the agent in user space. (What outlives it in the kernel is pinned: `datapath`.)

mod ledger;

pub use ledger::{JOURNAL_VERSION, LEDGER_VERSION, Ledger, LedgerError, Remembered};
