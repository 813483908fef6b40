//! Whether generations can be profiled here: perf events, and bugs of the kernel in them.

use std::path::Path;

use super::finding::{Check, Finding};
use crate::profile::{Measure, Unwind, known_bugs};

/// There is one wherever the kernel has perf events.
const PARANOID: &str = "/proc/sys/kernel/perf_event_paranoid";

/// What is to be known.
#[derive(Clone, Debug)]
pub(super) struct Sampling {
    has_events: bool,
    /// Why `hotlb profile` refuses as it is called without options.
    bug: Option<String>,
}

impl Sampling {
    /// Looks; nothing is sampled.
    pub(super) fn gather() -> Self {
        Self {
            has_events: Path::new(PARANOID).exists(),
            bug: known_bugs::on_this_host(Measure::Cpu, Unwind::Auto),
        }
    }
}

/// The verdict.
pub(super) fn check(sampling: &Sampling) -> Finding {
    let check = Check::optional("profile", PARANOID);
    if !sampling.has_events {
        return check.degraded(
            "the kernel has no perf events",
            "`hotlb profile` shows no CPU time",
            "use a kernel with CONFIG_PERF_EVENTS; --off-cpu works without",
        );
    }
    match &sampling.bug {
        None => check.ok("perf events, and no known bug of this kernel in them"),
        Some(bug) => check.degraded(
            bug,
            "`hotlb profile` refuses unless --force is given",
            "use what is named instead, or another kernel",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::finding::Verdict, *};

    #[test]
    fn a_kernel_with_a_bug_is_degraded_only() {
        let sampling = |has_events, bug: Option<&str>| Sampling {
            has_events,
            bug: bug.map(str::to_owned),
        };
        assert_eq!(check(&sampling(true, None)).verdict, Verdict::Ok);
        assert_eq!(check(&sampling(false, None)).verdict, Verdict::Degraded);
        let finding = check(&sampling(true, Some("locks up")));
        assert_eq!(finding.verdict, Verdict::Degraded);
        assert!(!finding.needed && finding.found == "locks up");
    }
}
