//! The agent's side of the control API, whose values and client are `hotlb-api`'s.

pub(crate) mod forward;
pub mod server;

pub use hotlb_api::{client, wire};
