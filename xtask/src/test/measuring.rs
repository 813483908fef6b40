//! Which integration tests have the machine for themselves: those that measure time, CPU or memory. All others wait for
//! most of their time, and do that side by side.

/// How many tests run at the same time of those that measure nothing.
pub(super) const SIDE_BY_SIDE: &str = "3";

/// What the names of the tests contain that run alone.
pub(crate) const MEASURING: [&str; 23] = [
    "crash::",
    "cycles::",
    "disk::",
    "drain_end::",
    "drain_report::",
    "harness::",
    "hostile::",
    "hung::",
    "incidents::",
    "latency::",
    "losses::",
    "native_histograms::",
    "profile::",
    "profile_counted::",
    "profile_diff::",
    "profile_kept::",
    "profile_trouble::",
    "profile_waiting::",
    "prometheus::",
    "scale::",
    "soak::",
    "usage::",
    "workers::",
];

/// Whether a test is one of them.
pub(super) fn measures(test: &str) -> bool {
    MEASURING.iter().any(|part| test.contains(part))
}
