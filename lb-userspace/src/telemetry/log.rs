//! Logs: `tracing` to stderr, aya-log's records included.

use tracing_subscriber::EnvFilter;

/// Starts logging. `HOTLB_LOG` filters (`info`, `debug`, `hotlb::agent=trace`); `json` writes one
/// JSON value a line.
pub fn start(json: bool, usual: &str) {
    // Fails only when there is a logger already: a test's.
    let _second = tracing_log::LogTracer::init();
    let filter =
        EnvFilter::try_from_env("HOTLB_LOG").unwrap_or_else(|_unset| EnvFilter::new(usual));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    let _second = if json {
        builder.json().try_init()
    } else {
        builder
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .try_init()
    };
}
