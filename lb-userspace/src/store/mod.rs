//! What outlives the agent in user space. (What outlives it in the kernel is pinned: `datapath`.)

mod ledger;

pub use ledger::{Ledger, LedgerError, Remembered};
