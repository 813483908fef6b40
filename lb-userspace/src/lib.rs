//! hotlb: replaces a running server by its next version without losing a connection.
//!
//! The data flow, outermost first: [`cli`] speaks to [`api`], which hands requests to [`agent`];
//! the agent asks [`rollout`] what follows and has [`generation`] (processes, sockets, probes,
//! drain) and [`datapath`] (the eBPF programs and maps) do it; [`store`] remembers and
//! [`telemetry`] tells. `docs/develop/architecture.md` has the picture and the rules.
//!
//! The parts are crates (`crates/`), so that Cargo refuses what one may not know of another. This
//! one gives all of them one name, and has what belongs to the program alone.

#![forbid(unsafe_code)]

pub mod doctor;
pub mod relay;

pub use hotlb_agent::{agent, daemon, server, takeover};
pub use hotlb_api as api;
pub use hotlb_cli as cli;
pub use hotlb_core::{config, fault, incident, rollout};
pub use hotlb_datapath as datapath;
pub use hotlb_generation as generation;
pub use hotlb_profile as profile;
pub use hotlb_store as store;
pub use hotlb_sys::{self as sys, clock};
pub use hotlb_telemetry::{self as telemetry, lineage};
pub use hotlb_values as values;
