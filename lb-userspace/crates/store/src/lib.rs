//! What outlives the agent in user space. (What outlives it in the kernel is pinned: `datapath`.)

#![forbid(unsafe_code)]

mod ledger;
mod ledger_file;
mod rollout_stats;

pub mod journal;

pub use hotlb_core::provenance::{Origin, Provenance};
pub use journal::Journal;
pub use ledger::{LEDGER_VERSION, Ledger, LedgerError, Remembered};
pub use ledger_file::LedgerFile;
pub use rollout_stats::{
    Durations, HookCounts, LastRollout, RolloutStats, TracedDuration, WindowCounts,
};

// Within this crate each part has one path, whichever crate it is in.
use hotlb_core::{config, fault, incident, rollout};
use hotlb_sys::{self as sys, clock};
