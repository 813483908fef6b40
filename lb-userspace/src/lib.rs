//! hotlb: replaces a running server by its next version without losing a connection.
//!
//! The data flow, outermost first: [`cli`] speaks to [`api`], which hands requests to [`agent`];
//! the agent asks [`rollout`] what follows and has [`generation`] (processes, sockets, probes,
//! drain) and [`datapath`] (the eBPF programs and maps) do it; [`store`] remembers and
//! [`telemetry`] tells. `docs/develop/architecture.md` has the picture and the rules.

pub mod agent;
pub mod api;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod datapath;
pub mod doctor;
pub mod fault;
pub mod generation;
pub mod incident;
pub mod profile;
pub mod relay;
pub mod rollout;
pub mod store;
pub mod sys;
pub mod takeover;
pub mod telemetry;
