//! The processes of a generation: which of them stands for it, and where its connections and listeners are found.

use std::io;

use lb_common::GenerationId;

use super::{registry::Generation, shared::SharedState};
use crate::{
    generation::{life, unit},
    sys::{cgroup::Cgroup, process},
};

/// Where a generation lives, and its first process and when that started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Processes<'a> {
    pub(super) cgroup: &'a Cgroup,
    pub(super) main: Option<(u32, u64)>,
}

impl Processes<'_> {
    /// Whether the first one lives.
    pub(super) fn main_runs(self) -> bool {
        let runs = |(pid, start)| process::start_time(pid) == Some(start);
        self.main.is_some_and(runs)
    }

    /// The one that stands for the generation: the first, or whom that left behind when it went into the background.
    pub(super) fn pid(self) -> Option<u32> {
        let (main, _) = self.main?;
        if self.main_runs() {
            return Some(main);
        }
        let own = self.own_cgroup()?;
        unit::first_processes(&own).first().copied()
    }

    /// Where its connections and listeners are found. In somebody else's cgroup that is over with its first process: all
    /// there may be its supervisor's next server.
    pub(super) fn own_cgroup(self) -> Option<Cgroup> {
        let is_own = !self.cgroup.is_foreign() || self.main_runs();
        is_own.then(|| self.cgroup.clone())
    }
}

/// Waits until no process of the generation is left. In somebody else's cgroup the next server
/// may run by then; there, what the watch task says is what counts.
pub(super) async fn gone(state: &SharedState, id: GenerationId, cgroup: &Cgroup) -> io::Result<()> {
    if !cgroup.is_foreign() {
        return life::emptied(cgroup).await;
    }
    let ended = state
        .look(|registry| registry.get(id).map(|g| g.end().awaited()))
        .await;
    if let Some(mut ended) = ended {
        // It fails when the entry is gone, and with it the generation.
        let _ended = ended.wait_for(Option::is_some).await;
    }
    Ok(())
}

/// Kills what is left of a generation at its deadline. In somebody else's cgroup only while its
/// first process lives: later all there may be its supervisor's next server.
pub(super) async fn kill_rest(
    state: &SharedState,
    id: GenerationId,
    cgroup: &Cgroup,
) -> io::Result<()> {
    // Under the lock, for it is for the agent in charge to do.
    let registry = state.lock().await;
    let runs = registry.get(id).is_some_and(Generation::main_runs);
    if cgroup.is_foreign() && !runs {
        return Ok(());
    }
    cgroup.kill()
}
