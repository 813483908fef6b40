//! The agent: owns the services ([`agent`]), does what the API asks ([`server`]), has [`generation`]
//! act on processes and sockets, remembers ([`store`]) and tells ([`telemetry`]). [`takeover`]
//! hands all of it to the agent of another release; [`daemon`] composes it.
//!
//! It depends on every other crate but the command line's. What it decides is in `hotlb-core`, what
//! it has the kernel do in `hotlb-datapath`.

#![forbid(unsafe_code)]

pub mod agent;
pub mod daemon;
mod door;
mod forward;
pub mod server;
pub mod takeover;

// Within this crate each part has one path, whichever crate it is in.
use hotlb_api as api;
use hotlb_core::{config, fault, incident, rollout};
use hotlb_datapath as datapath;
use hotlb_generation as generation;
use hotlb_profile as profile;
use hotlb_store as store;
use hotlb_sys::{self as sys, clock};
use hotlb_telemetry::{self as telemetry, lineage, observed};
