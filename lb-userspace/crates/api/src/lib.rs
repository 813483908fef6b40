//! The control API: HTTP and JSON on a unix socket.
//!
//! [`wire`] is what both sides agree on, [`client`] everybody's side but the agent's, for programs
//! that drive hotlb as for its own command line. [`OPENAPI`] describes it; the agent serves it.
//!
//! It depends on `hotlb-core` and `hotlb-values`, for the values. Whoever uses it links no kernel
//! programs, no database and no collector of traces.

#![forbid(unsafe_code)]

pub mod client;
#[cfg(test)]
mod docs;
pub mod wire;

/// The API's description, for programs that read it. `hotlb-openapi` generates it from [`wire`].
pub const OPENAPI: &str = include_str!("openapi.json");
