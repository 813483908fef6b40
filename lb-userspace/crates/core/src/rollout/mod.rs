//! What follows from what: pure decisions about generations. No IO, no clock, no logging.

mod decide;
mod phase;
mod state;
mod step;

pub mod habit;
pub mod predict;
pub mod recipe;

pub use decide::{
    Member, RollbackWay, Standing, Unpromotable, cannot_promote, cannot_stop, fallback,
    rollback_way,
};
pub use phase::Phase;
pub use state::GenerationState;
pub use step::{Course, Effect, Event, diagram, step, work};
