//! Where a generation spends CPU time: samples, stacks, names, and what is made of them.
//!
//! A process of its own ([`helper`]) samples for the agent, which starts it for one profile: it
//! reads programs of other people, which may be huge, broken or hostile, and must not end the agent
//! or grow it. The result is a [`Profile`]; [`output`] turns it into files and [`diff`] compares two
//! generations; both are pure.

mod budget;
mod collector;
pub mod diff;
mod error;
mod functions;
pub mod helper;
mod model;
mod module;
mod names;
pub mod output;
mod plan;
mod refusal;
mod space;
mod stacks;
mod unwind;

pub use error::{Failed, ProfileError};
pub use model::{Exposure, Frame, FrameKind, Profile, Sampled, Stack};
pub use plan::{DURATION, FREQUENCY, Plan, Target, Unwind};
