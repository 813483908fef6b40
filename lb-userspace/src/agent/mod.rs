//! The agent: owns the services, and does what the API asks of them.

mod adopt_error;
mod error;
mod history;
mod service;
mod start;

pub use adopt_error::{AdoptError, NotSharing};
pub use error::{OpenError, StartError, VerbError};
pub use service::{Reporter, Service};
pub use start::{Agent, GROUP, Host, ONLY};
