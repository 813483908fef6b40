//! Disks that may not respond: one on the network may never do.

use std::{fmt, io, sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    task::{JoinError, spawn_blocking},
    time::timeout,
};

/// Longest wait for a disk.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// What is said of one that did not respond within [`PATIENCE`].
pub const SILENT: &str = "its disk does not respond";

/// Why work on a disk was not waited for any more.
#[derive(Debug)]
pub enum Undone {
    /// The disk does not respond: it may still be done.
    Silent,
    /// A defect ended the thread.
    Broke(JoinError),
}

impl fmt::Display for Undone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => f.write_str(SILENT),
            Self::Broke(error) => error.fmt(f),
        }
    }
}

impl From<Undone> for io::Error {
    fn from(undone: Undone) -> Self {
        match undone {
            Undone::Silent => Self::other(SILENT),
            Undone::Broke(error) => Self::other(error),
        }
    }
}

/// Works in a thread, and waits for it no longer than [`PATIENCE`]. It goes on by itself after that.
///
/// # Errors
///
/// When the disk does not respond.
pub async fn in_time<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Undone> {
    waited_for(spawn_blocking(work)).await
}

async fn waited_for<T>(working: impl Future<Output = Result<T, JoinError>>) -> Result<T, Undone> {
    match timeout(PATIENCE, working).await {
        Ok(worked) => worked.map_err(Undone::Broke),
        Err(_elapsed) => Err(Undone::Silent),
    }
}

/// Has one thread at a time work on something, so that a disk which does not respond holds one thread
/// and no more. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Turn(Arc<Mutex<()>>);

impl Turn {
    /// Waits until no thread works, and keeps others from it.
    pub async fn take(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.0).lock_owned().await
    }

    /// Works in a thread that has its turn until it is done, also when nobody waits for it any more.
    ///
    /// # Errors
    ///
    /// When a defect ended it.
    pub async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        with(self.take().await, work).await
    }

    /// The same, waited for no longer than [`PATIENCE`]. If its turn has not come by then, it is not begun.
    ///
    /// # Errors
    ///
    /// When the disk does not respond.
    pub async fn work_in_time<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Undone> {
        waited_for(self.work(work)).await
    }

    /// The same, unless another thread works just now.
    ///
    /// # Errors
    ///
    /// When the disk does not respond, as far as is known: another thread works.
    pub async fn work_at_once<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Undone> {
        match Arc::clone(&self.0).try_lock_owned() {
            Ok(turn) => waited_for(with(turn, work)).await,
            Err(_taken) => Err(Undone::Silent),
        }
    }
}

async fn with<T: Send + 'static>(
    turn: OwnedMutexGuard<()>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    let working = spawn_blocking(move || {
        let _turn = turn;
        work()
    });
    working.await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_whose_turn_does_not_come_is_not_begun() {
        let turn = Turn::default();
        let taken = turn.take().await;
        let (begun, seen) = std::sync::mpsc::channel();
        let tell = begun.clone();
        let later = turn.work_in_time(move || tell.send(())).await;
        assert_eq!(later.unwrap_err().to_string(), SILENT);
        let at_once = turn.work_at_once(move || begun.send(())).await;
        assert_eq!(io::Error::from(at_once.unwrap_err()).to_string(), SILENT);
        drop(taken);
        assert_eq!(turn.work(|| 7).await.unwrap(), 7);
        assert!(seen.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_defect_is_told_from_a_disk() {
        let broke = in_time(|| assert!(std::env::args().count() == usize::MAX)).await;
        assert!(matches!(broke, Err(Undone::Broke(_))), "{broke:?}");
    }
}
