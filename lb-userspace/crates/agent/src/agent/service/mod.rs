//! One service: its generations, its parking listeners, its part of the kernel.
//!
//! [`Service`] is shared by the API's requests and by the task that looks after it. Everything that changes stands in
//! [`shared::SharedState`], or belongs to one of the [`parts`]. The one exception is the steering word: it lives in the
//! kernel, and [`steering`] is its only writer.

#[macro_use]
mod context;

mod adopt;
mod again;
mod beside;
mod broken;
mod caller;
mod checks;
mod datagrams;
mod deploy;
mod down;
mod drain;
mod ending;
mod facade;
mod find;
mod flows;
mod foreign_programs;
mod freeze;
mod halt;
mod hung;
mod incidents;
mod kept_profiles;
mod lives;
mod maintenance;
mod network;
mod open;
mod outlet;
mod pace;
mod parking;
mod parks;
mod parts;
mod polite;
mod ports;
mod preflight;
mod processes;
mod profile;
mod programs;
mod quiesced;
mod recount;
mod recovery;
mod registry;
mod reload;
mod report;
mod reports;
mod rollout;
mod seats;
mod shared;
mod slots;
mod steering;
mod view;
mod wake;
mod witness;
mod workers;

pub use caller::Caller;
pub use context::Context;
pub use facade::Service;
pub use preflight::preflight;
pub(super) use quiesced::QuiescedService;
pub use report::{Fulfilled, Reporter};

use super::error::{
    AdoptError, CheckError, HostError, NotSharing, Now, OpenError, Unbound, UpgradeError, VerbError,
};
