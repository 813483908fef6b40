//! Logs: `tracing` to stderr, aya-log's records included.

use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};

/// Starts logging. `HOTLB_LOG` filters (`info`, `debug`, `hotlb::agent=trace`), else the
/// configuration's level.
pub fn start(config: &LogConfig) {
    // Fails only when there is a logger already: a test's.
    let _second = tracing_log::LogTracer::init();
    let asked = std::env::var("HOTLB_LOG")
        .ok()
        .filter(|text| !text.is_empty());
    let wrong = asked
        .as_deref()
        .and_then(|text| LogConfig::check(text).err());
    let asked = asked.filter(|_| wrong.is_none());
    let level = asked.as_deref().unwrap_or(&config.level);
    let filter = EnvFilter::new(LogConfig::filter(level));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    let _second = if config.format == LogFormat::Json {
        builder.json().try_init()
    } else {
        builder
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .try_init()
    };
    if let Some(wrong) = wrong {
        tracing::error!("HOTLB_LOG is invalid: {wrong}; level is {}", config.level);
    }
}
