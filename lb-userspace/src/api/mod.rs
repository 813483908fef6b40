//! The control API: HTTP and JSON on a unix socket.
//!
//! [`wire`] is what both sides agree on, [`server`] the agent's side, [`client`] everybody
//! else's. `openapi.json` beside this file describes it; the agent serves it.

pub mod client;
pub(crate) mod forward;
pub mod server;
pub mod wire;
