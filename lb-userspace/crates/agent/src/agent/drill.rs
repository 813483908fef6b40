//! Injected faults: a task that breaks on purpose, as a defect would have it, to show that its service goes
//! on.

use std::{
    collections::BTreeSet,
    sync::{LazyLock, Mutex, PoisonError},
};

use thiserror::Error;

use crate::fault::Kind;

/// Where a task can be broken.
const POINTS: [&str; 12] = [
    "pre_load",
    "validate",
    "swap",
    "bake",
    "drain",
    "rolling_back",
    "post_rollback",
    "deploy",
    "leaving",
    "end",
    "prove",
    "tend",
];

/// The points that are still to be reached: each task breaks once.
static AHEAD: LazyLock<Mutex<BTreeSet<String>>> = LazyLock::new(|| Mutex::new(wanted()));

/// `HOTLB_FAULTS` names what is no point.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "HOTLB_FAULTS (or HOTLB_DRILL_PANIC) names \"{}\", which is no task that can be broken; expected \
     one of {}; unset it for normal operation",
    .0.escape_debug(), POINTS.join(", ")
)]
pub struct NoPoint(String);

fn wanted() -> BTreeSet<String> {
    Kind::Task.wanted().into_iter().collect()
}

/// Whether the environment asks for a task to break.
///
/// # Errors
///
/// [`NoPoint`].
pub fn is_wanted() -> Result<bool, NoPoint> {
    let wanted = wanted();
    let unknown = wanted.iter().find(|name| !POINTS.contains(&name.as_str()));
    match unknown {
        Some(name) => Err(NoPoint(name.clone())),
        None => Ok(!wanted.is_empty()),
    }
}

/// Panics if a fault is wanted at this point and it was not reached before.
pub(super) fn point(name: &str) {
    let mut ahead = AHEAD.lock().unwrap_or_else(PoisonError::into_inner);
    let is_reached = ahead.remove(name);
    drop(ahead);
    assert!(!is_reached, "an injected fault at {name}");
}
