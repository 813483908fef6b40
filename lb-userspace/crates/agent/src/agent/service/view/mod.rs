//! What is shown of a service: computed of a snapshot, when the lock of the state is free again.

pub(super) mod accounting;
mod hung;
pub(super) mod metrics;
pub(super) mod snapshot;
pub(super) mod status;
mod steering;
pub(super) mod warnings;
