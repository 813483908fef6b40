//! The processes of a generation: which of them stands for it, and where its connections and listeners are found.

use crate::{
    generation::unit,
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
