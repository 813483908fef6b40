//! The keeper: a process that does nothing but hold a service's parking listeners, so that they
//! outlive a killed agent.
//!
//! One a service, in the service's own cgroup (a socket belongs to the cgroup that makes it, and
//! `track` counts by cgroup). It opens a listener when told to, closes one when told to, and
//! lists what it holds. The agent takes duplicates with `pidfd_getfd`.

mod client;
mod protocol;
mod server;

/// What its process is called.
pub const NAME: &str = "hotlb-keeper";

pub use client::{Keeper, KeeperError, PATIENCE};
pub use protocol::{PROTOCOL, Parked};
pub use server::{KeepArgs, keep};
