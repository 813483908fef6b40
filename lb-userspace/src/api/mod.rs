//! The control API: HTTP and JSON on a unix socket.
//!
//! [`wire`] is what both sides agree on, [`server`] the agent's side, [`client`] everybody
//! else's. `openapi.json` beside this file describes it; the agent serves it.

pub mod client;
#[cfg(test)]
mod docs;
pub(crate) mod forward;
#[cfg(test)]
mod openapi;
pub mod server;
pub mod wire;
