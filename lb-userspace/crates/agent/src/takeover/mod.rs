//! The agent is replaced by another one, of another release perhaps, while it runs.
//!
//! The agent in charge starts its *successor* and hears what it can take over. Only then it stops
//! acting, gives its locks and listening sockets away, and waits until the successor serves.
//! Whatever fails on the way, one of them is in charge: `docs/develop/decisions/0008-agent-upgrade.md`.
//! The kernel steers all the time; nothing of this is in the path.

mod channel;
pub mod drill;
mod former;
mod message;
mod program;

use std::time::Duration;

pub(crate) use self::{
    channel::{Channel, Silence},
    former::Former,
    message::{FromFormer, FromSuccessor, Hello, Offer, Refusal},
};
pub use self::{drill::Step, program::Origin};

/// Longest time for one step of the other side.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
