//! The agent is replaced by another one, of another release perhaps, while it runs.
//!
//! The agent in charge starts its *successor* and hears what it can take over. Only then it stops
//! acting, gives its locks and listening sockets away, and waits until the successor serves.
//! Whatever fails on the way, one of them is in charge: `docs/develop/decisions/0008-agent-upgrade.md`.
//! The kernel steers all the time; nothing of this is in the path.

mod channel;
mod door;
pub mod drill;
mod error;
mod former;
mod message;
mod order;
mod program;
mod successor;

use std::time::Duration;

pub use self::{
    door::Doorway,
    drill::Step,
    error::UpgradeError,
    order::Upgrades,
    program::Origin,
    successor::{NotTakenOver, take_over},
};
pub(crate) use self::{
    door::{Closing, Door, Hinge},
    former::Former,
    order::Order,
};

/// Longest time for one step of the other side.
const PATIENCE: Duration = Duration::from_secs(10);
