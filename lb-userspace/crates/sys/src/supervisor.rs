//! What systemd, or whoever speaks its protocol, is told about this process. Without
//! `NOTIFY_SOCKET` nobody is told anything.

use std::time::Duration;

use sd_notify::NotifyState;

/// This process is the service, and is ready. Also said by the successor of another process.
pub fn ready() {
    tell(&[NotifyState::MainPid(std::process::id()), NotifyState::Ready]);
}

/// This process is about to end; what ends with it has ended.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// The start goes on: it may take `limit` longer from now on.
pub fn still_starting(limit: Duration) {
    let microseconds = u32::try_from(limit.as_micros()).unwrap_or(u32::MAX);
    tell(&[NotifyState::ExtendTimeoutUsec(microseconds)]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "failed to notify the service manager");
    }
}
