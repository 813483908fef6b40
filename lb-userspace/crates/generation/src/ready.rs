//! Processes of the agent that say when they are ready.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Child,
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(5);

/// Waits until it says "ready" on its stdout.
///
/// # Errors
///
/// How it ended instead, or that it took too long.
pub(super) async fn ready(mut child: Child) -> io::Result<()> {
    let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let mut line = String::new();
    timeout(PATIENCE, BufReader::new(stdout).read_line(&mut line)).await??;
    if line == "ready\n" {
        Ok(())
    } else {
        let status = timeout(PATIENCE, child.wait()).await??;
        Err(io::Error::other(format!("it ended at once: {status}")))
    }
}
