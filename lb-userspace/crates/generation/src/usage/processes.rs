//! What processes use, added up: the last resort.

use std::time::Duration;

use procfs::{
    ProcResult, WithCurrentSystemInfo as _,
    process::{Process, Stat},
};

use super::{CpuTime, Measured, Reading, Source, Unavailable};

/// CPU time, that of children that were waited for included. It falls when a process ends that is
/// not: Prometheus takes that for a restart of the counter.
pub(super) fn cpu(pids: &[u32]) -> Reading<CpuTime> {
    let ticks = |ticks: u64| Duration::from_millis(ticks * 1000 / procfs::ticks_per_second());
    sum(pids, |process| {
        let stat = process.stat()?;
        Ok(CpuTime {
            user: ticks(stat.utime + children(stat.cutime)),
            system: ticks(stat.stime + children(stat.cstime)),
        })
    })
}

fn children(ticks: i64) -> u64 {
    u64::try_from(ticks).unwrap_or_default()
}

/// Resident memory in bytes; a page that several processes share is counted for each.
pub(super) fn memory(pids: &[u32]) -> Reading<u64> {
    sum(pids, |process| {
        process.stat().map(|stat: Stat| stat.rss_bytes().get())
    })
}

/// The sum over those that still run.
fn sum<T: Add>(pids: &[u32], of: impl Fn(&Process) -> ProcResult<T>) -> Reading<T> {
    let one = |pid: &u32| {
        let process = Process::new(i32::try_from(*pid).ok()?).ok()?;
        of(&process).ok()
    };
    let value = pids.iter().filter_map(one).reduce(Add::plus);
    Ok(Measured {
        value: value.ok_or(Unavailable::Ended)?,
        source: Source::Processes,
    })
}

trait Add {
    fn plus(self, other: Self) -> Self;
}

impl Add for u64 {
    fn plus(self, other: Self) -> Self {
        self.saturating_add(other)
    }
}

impl Add for CpuTime {
    fn plus(self, other: Self) -> Self {
        Self {
            user: self.user.saturating_add(other.user),
            system: self.system.saturating_add(other.system),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_living_are_added_up_and_nobody_is_an_end() {
        let own = std::process::id();
        let one = memory(&[own]).unwrap();
        assert!(one.value > 100_000 && one.source == Source::Processes);
        assert!(memory(&[own, own, u32::MAX]).unwrap().value > one.value);
        assert_eq!(cpu(&[]), Err(Unavailable::Ended));
        cpu(&[own]).unwrap();
    }
}
