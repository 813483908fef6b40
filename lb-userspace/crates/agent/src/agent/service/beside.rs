//! Work that may wait, for the kernel's lists, /proc or a disk, beside the few threads of the runtime: events must be
//! heard meanwhile.

use std::{
    any::Any,
    future::pending,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{OnceLock, mpsc},
    thread,
};

use tokio::sync::oneshot;

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

/// The same for what every service has done once a second and waits for the kernel alone, never for a disk or a
/// program: one thread does it for all, one after the other. With a thread for each, fifty services keep as many
/// busy with waking each other.
pub(super) async fn in_turn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let Some(looks) = looks() else {
        return beside(work).await;
    };
    let (sender, done) = oneshot::channel();
    let job = move || {
        // Nobody waits for it any more: its task was ended.
        let _unwanted = sender.send(catch_unwind(AssertUnwindSafe(work)));
    };
    // The other end is never dropped.
    let _there = looks.send(Box::new(job));
    let outcome: Result<_, Box<dyn Any + Send>> = match done.await {
        Ok(outcome) => outcome,
        Err(_never) => pending().await,
    };
    outcome.unwrap_or_else(|panic| resume_unwind(panic))
}

type Job = Box<dyn FnOnce() + Send>;

/// The thread's work; `None` if there is no thread.
fn looks() -> Option<&'static mpsc::Sender<Job>> {
    static LOOKS: OnceLock<Option<mpsc::Sender<Job>>> = OnceLock::new();
    let looks = LOOKS.get_or_init(|| {
        let (sender, jobs) = mpsc::channel::<Job>();
        let run = move || jobs.into_iter().for_each(|job| job());
        let thread = thread::Builder::new().name("looks".to_owned()).spawn(run);
        let made = thread.inspect_err(|error| tracing::warn!(%error, "failed to start a thread"));
        made.is_ok().then_some(sender)
    });
    looks.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_of_them_share_a_thread_that_outlives_a_panic() {
        let first = in_turn(|| thread::current().id()).await;
        let broken = tokio::spawn(in_turn::<()>(|| panic!("on purpose"))).await;
        let panic = broken.unwrap_err().into_panic();
        assert_eq!(panic.downcast_ref(), Some(&"on purpose"));
        assert_eq!(in_turn(|| thread::current().id()).await, first);
        assert_ne!(first, thread::current().id());
    }
}
