//! The agent: owns the services, and does what the API asks of them.

mod error;
mod history;
mod service;
mod start;

pub use error::{OpenError, StartError, VerbError};
pub use service::{Reporter, Service};
pub use start::{Agent, GROUP, Host, ONLY};
