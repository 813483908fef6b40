//! What sampling itself may use.

use std::time::Duration;

/// The share of one CPU the sampling may use, in percent, over its whole time.
const CPU_PERCENT: u128 = 25;
/// Before this much time the share says nothing: programs are read at the beginning.
const SETTLED: Duration = Duration::from_secs(2);
/// Resident memory it may have, in bytes.
const MEMORY: u64 = 150 << 20;

/// What the sampling used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Used {
    /// CPU time.
    pub(super) cpu: Duration,
    /// Resident memory in bytes, with the pages of mapped programs.
    pub(super) memory: u64,
}

impl Used {
    /// What this process has used since it began.
    pub(super) fn now() -> Self {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let resident = pages.split(' ').nth(1).and_then(|pages| pages.parse().ok());
        Self {
            cpu: hotlb_sys::clock::own_cpu(),
            memory: resident.unwrap_or(0_u64) * rustix::param::page_size() as u64,
        }
    }

    /// Without the CPU time that had been used before.
    pub(super) fn since(self, before: Duration) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(before),
            ..self
        }
    }

    /// Why sampling must stop after `elapsed`, if it must.
    pub(super) fn exceeded(self, elapsed: Duration) -> Option<String> {
        let allowed = elapsed.max(SETTLED).as_micros() * CPU_PERCENT / 100;
        if self.memory > MEMORY {
            return Some(format!(
                "the sampling itself had {} MB of memory, more than {} MB",
                self.memory >> 20,
                MEMORY >> 20
            ));
        }
        (self.cpu.as_micros() > allowed).then(|| {
            format!(
                "the sampling itself used {} ms of CPU time in {} ms, more than {CPU_PERCENT} % of \
                 a CPU; use a lower --frequency or --unwind fp",
                self.cpu.as_millis(),
                elapsed.as_millis()
            )
        })
    }

    /// Whether it has more memory than it may have.
    pub(super) fn is_too_large(self) -> bool {
        self.memory > MEMORY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_a_cpu_is_allowed() {
        let used = |cpu, memory| Used {
            cpu: Duration::from_millis(cpu),
            memory,
        };
        let second = Duration::from_secs(1);
        assert_eq!(used(499, 0).exceeded(second), None);
        assert!(used(501, 0).exceeded(second).is_some());
        assert_eq!(used(999, 0).exceeded(second * 4), None);
        assert!(used(1001, 0).exceeded(second * 4).is_some());
        assert!(used(0, MEMORY + 1).exceeded(second).is_some());
        assert!(Used::now().memory > 0);
    }
}
