//! Traces: one for each rollout, made from what the journal has of it once it is over.
//!
//! Nothing of this is in a rollout's way. A rollout enters the journal's outbox when it begins;
//! when it is over, [`Traces`] reads it back, makes its spans with the journal's own times, and
//! sends them until a collector takes them. The journal is the queue, so that an agent that is
//! killed, or replaced, loses none, and a rollout that two agents carried out is one trace.

mod answer;
mod collector;
mod exporter;
mod listening;
mod parts;
mod spans;

pub use self::{collector::TracesError, exporter::Traces};
pub use crate::store::journal::dropped_traces as dropped;
