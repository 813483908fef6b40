//! What `hotlb incidents` says, as JSON.

pub mod recording;

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::{host::Host, profile::Profile, wait};

/// `hotlb incidents`.
#[derive(Debug, Clone, Deserialize)]
pub struct List {
    /// Newest first.
    pub incidents: Vec<Incident>,
}

/// An incident; in short, all but the first fields are missing.
#[derive(Debug, Clone, Deserialize)]
pub struct Incident {
    /// Its id.
    pub id: String,
    /// Its generation.
    pub generation: String,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// From 0 to 1.
    pub score: f64,
    /// In words.
    pub reason: String,
    /// The rollout it fell into.
    pub rollout: Option<String>,
    /// What it takes.
    pub bytes: u64,
    /// The generation beside it.
    #[serde(default)]
    pub beside: Option<String>,
    /// The slowest connections.
    #[serde(default)]
    pub connections: Vec<SlowConnection>,
    /// Stacks.
    #[serde(default)]
    pub profile: Option<Profile>,
    /// What is missing.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// A slow connection.
#[derive(Debug, Clone, Deserialize)]
pub struct SlowConnection {
    /// The client.
    pub client: SocketAddr,
    /// What it waited for.
    pub phase: String,
    /// For how long, in microseconds.
    pub waited_us: u64,
}

/// `hotlb incidents windows`.
#[derive(Debug, Clone, Deserialize)]
pub struct Windows {
    /// Oldest first.
    pub windows: Vec<Window>,
}

/// A window.
#[derive(Debug, Clone, Deserialize)]
pub struct Window {
    /// The generation.
    pub generation: String,
    /// When it ended, in milliseconds since 1970.
    pub at_ms: i64,
    /// Its score, if it has one.
    pub score: Option<f64>,
    /// Requests answered in it.
    pub requests: u64,
}

/// The incidents there are, newest first.
pub fn list(host: &Host) -> Result<Vec<Incident>> {
    let run = host.ok(&["incidents", "-n", "10000", "--output", "json"])?;
    let list: List = serde_json::from_str(&run.stdout).with_context(|| run.describe())?;
    Ok(list.incidents)
}

/// One in full.
pub fn show(host: &Host, id: &str) -> Result<Incident> {
    let run = host.ok(&["incidents", "show", id, "--output", "json"])?;
    serde_json::from_str(&run.stdout).with_context(|| run.describe())
}

/// The newest windows.
pub fn windows(host: &Host) -> Result<Vec<Window>> {
    let run = host.ok(&["incidents", "windows", "-n", "10000", "--output", "json"])?;
    let windows: Windows = serde_json::from_str(&run.stdout).with_context(|| run.describe())?;
    Ok(windows.windows)
}

/// Waits until `count` windows of a generation have a score.
pub fn wait_scored(host: &Host, generation: &str, count: usize, limit: Duration) -> Result<()> {
    let what = format!("{count} windows of {generation} are scored");
    wait::until_true(&what, limit, || {
        windows(host).is_ok_and(|windows| {
            let scored = |w: &&Window| w.generation == generation && w.score.is_some();
            windows.iter().filter(scored).count() >= count
        })
    })
}
