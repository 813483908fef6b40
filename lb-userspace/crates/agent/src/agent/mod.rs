//! The agent: owns the services, and does what the API asks of them.

pub mod drill;
mod error;
pub mod footing;
mod ground;
mod outputs;
mod quiesce;
mod service;
mod start;
mod view;

pub use error::{
    AdoptError, HostError, NotSharing, Now, OpenError, PinsGone, StartError, Unbound, UpgradeError,
    VerbError,
};
pub use ground::GROUP;
pub use quiesce::Quiesced;
pub use service::{Caller, Context, Fulfilled, Reporter, Service, preflight};
pub use start::{Agent, Host, LOCKS, ONLY};
pub use view::View;
