//! Generations: how one comes to be, which sockets it has, whether it serves, how it ends.
//!
//! Effects on processes and sockets, one each; what to do when is decided in `rollout` and
//! `agent`. Knows the datapath's tickets (probes), nothing of the API.

#![forbid(unsafe_code)]

pub mod adoptee;
pub mod established;
pub mod evenness;
pub mod exec;
pub mod fit;
pub mod hook;
pub mod keeper;
pub mod launch;
pub mod life;
pub mod listeners;
pub mod loadable;
pub mod notify;
pub mod output;
pub mod probe;
pub mod progress;
mod ready;
pub mod roots;
pub mod serving;
pub mod shim;
pub mod standstill;
pub mod stray;
pub mod unit;
pub mod usage;

// Within this crate each part has one path, whichever crate it is in.
use hotlb_core::{config, rollout};
use hotlb_datapath as datapath;
use hotlb_sys::{self as sys, clock};
