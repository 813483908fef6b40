//! What outlives the agent in user space. (What outlives it in the kernel is pinned: `datapath`.)

mod ledger;
mod outside;

pub use ledger::{Ledger, LedgerError, Remembered};
pub use outside::{Origin, Outside};
