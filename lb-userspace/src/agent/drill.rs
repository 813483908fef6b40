//! Drills: a task that breaks on purpose, as a defect would have it, to show that its service goes
//! on.

use std::{
    collections::BTreeSet,
    env,
    sync::{LazyLock, Mutex, PoisonError},
};

use thiserror::Error;

/// The variable that names the points, with commas between them.
const VARIABLE: &str = "HOTLB_DRILL_PANIC";

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

/// `HOTLB_DRILL_PANIC` names what is no point.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "HOTLB_DRILL_PANIC names \"{}\", which is not a drill point; expected one of {}; unset it for \
     normal operation",
    .0.escape_debug(), POINTS.join(", ")
)]
pub struct NoPoint(String);

fn wanted() -> BTreeSet<String> {
    let value = env::var_os(VARIABLE).unwrap_or_default();
    let names = value.to_string_lossy();
    let names = names.split(',').map(str::trim);
    names
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Whether the environment asks for a drill.
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

/// Panics if the drill is about this point and it was not reached before.
pub(super) fn point(name: &str) {
    let mut ahead = AHEAD.lock().unwrap_or_else(PoisonError::into_inner);
    let is_reached = ahead.remove(name);
    drop(ahead);
    assert!(!is_reached, "a drill at {name}");
}
