//! Work that may wait, for the kernel's lists, /proc or a disk, beside the few threads of the runtime: events must be
//! heard meanwhile.

use std::{future::pending, panic::resume_unwind};

/// Does it, and breaks with it.
pub(super) async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The agent ends, and nobody waits for it any more.
            Err(_cancelled) => pending().await,
        },
    }
}
