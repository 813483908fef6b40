//! Rollouts: what the verbs ask for, carried out step by step, and written down before it is
//! done.

mod effects;
mod execute;
mod hooks;
mod late;
mod minutes;
mod parked;
mod plan;
mod report;
mod resume;
mod rollback;
mod start;
mod wanted;

pub(super) use plan::{InFlight, Plan};

use std::sync::Arc;

use super::{
    Context, checks::Checks, deploy::Deploys, drain::Leaving, lives::Lives, parking::Parking,
    ports::ForeignPorts, seats::Seats, shared::SharedState,
};

/// Carries out what makes another generation active.
#[derive(Debug)]
pub(super) struct Rollouts {
    context: Arc<Context>,
    state: SharedState,
    parking: Arc<Parking>,
    lives: Arc<Lives>,
    deploys: Arc<Deploys>,
    leaving: Arc<Leaving>,
    seats: Seats,
    checks: Checks,
    ports: Arc<ForeignPorts>,
}

context_of!(Rollouts);
