//! Which integration tests have the machine for themselves: those that measure. All others wait for most of their time, and
//! do that side by side.

/// How many tests run at the same time of those that measure nothing.
pub(super) const SIDE_BY_SIDE: &str = "4";

/// What the names of the tests contain that run alone: they assert less than a second, or report a time. A module that
/// ends like another one is alone with it.
pub(crate) const MEASURING: [&str; 27] = [
    "agent_upgrade::twenty_upgrades_under_load",
    "crash::",
    "cycles::",
    "disk::",
    "drain_end::",
    "drain_report::",
    "harness::",
    "hooks::",
    "hostile::",
    "hung::",
    "incidents::",
    "latency::",
    "native_histograms::quantiles_of_prometheus_are_those_of_the_clients",
    "parking::a_stopped_keeper_delays_only_those_who_wait_in_it",
    "profile::",
    "profile_counted::",
    "profile_diff::",
    "profile_kept::",
    "profile_waiting::",
    "prometheus::",
    "reloads::",
    "scale::",
    "soak::",
    "tiers::",
    "traces::a_collector_that_hangs_delays_nobody",
    "usage::",
    "workers::",
];

/// Whether a test is one of them.
pub(super) fn measures(test: &str) -> bool {
    MEASURING.iter().any(|part| test.contains(part))
}
