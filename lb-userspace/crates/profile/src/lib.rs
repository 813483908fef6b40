//! Where a generation spends CPU time: samples, stacks, names.
//!
//! A process of its own ([`helper`]) samples for the agent, which starts it for one profile: it
//! reads programs of other people, which may be huge, broken or hostile, and must not end the agent
//! or grow it. The result is a [`Profile`], a plain value of `hotlb-values`; what files and tables
//! are made of it is the command line's.

#![forbid(unsafe_code)]

mod budget;
mod collector;
mod continuous;
mod error;
mod functions;
pub mod helper;
pub mod known_bugs;
mod module;
mod names;
mod naming;
mod opening;
pub mod orders;
mod perf_map;
mod plan;
mod refusal;
mod space;
mod stacks;
mod unwind;
mod waiting;

pub use error::{Failed, ProfileError};
pub use hotlb_values::profile::{
    Exposure, Frame, FrameKind, Measure, Profile, Sampled, Stack, Unwind,
};
pub use plan::{DURATION, FREQUENCY, Plan, Target};
