//! The file of a service's ledger, and its only writer while this agent has the service.
//!
//! What is to be remembered is handed over at once and written by another thread: a disk that does not
//! respond delays those who wait for the ledger, and nobody else.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::time::timeout;

use super::{Ledger, LedgerError};
use crate::{
    clock::{self, Deadline},
    sys::disk::{PATIENCE, SILENT, Turn, Undone},
};

/// Before a write that nobody waits for: what comes meanwhile is written together, and clients who were just led to
/// another generation have the CPUs.
const SOON: Duration = Duration::from_millis(5);

/// The file of one service's ledger.
#[derive(Clone, Debug)]
pub struct LedgerFile {
    path: Arc<PathBuf>,
    next: Arc<Mutex<Next>>,
    /// Held by the thread that uses the file, for as long as that takes.
    turn: Turn,
}

/// What is to be written, and how that went.
#[derive(Debug, Default)]
struct Next {
    /// A newer one replaces one that is not written yet.
    ledger: Option<Ledger>,
    /// How many were handed over, and the last of them that was written, or could not be.
    handed: u64,
    done: u64,
    /// Since when one of them waits.
    since: Option<Instant>,
    /// Why the last write failed.
    error: Option<String>,
    is_removed: bool,
}

impl LedgerFile {
    /// The one at `path`.
    pub fn at(path: PathBuf) -> Self {
        Self {
            path: Arc::new(path),
            next: Arc::default(),
            turn: Turn::default(),
        }
    }

    /// Has it written soon.
    pub fn write(&self, ledger: Ledger) {
        let is_new = {
            let mut next = self.next();
            if next.is_removed {
                return;
            }
            next.handed += 1;
            next.since.get_or_insert_with(clock::now);
            next.ledger.replace(ledger).is_none()
        };
        if is_new {
            let file = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep_until(Deadline::after(SOON).instant()).await;
                file.catch_up().await;
            });
        }
    }

    /// Waits until everything is written that was handed over by now. Why it is not, if so.
    pub async fn written(&self) -> Option<String> {
        let handed = self.next().handed;
        // What waits goes on without it.
        let _waited = timeout(PATIENCE, self.catch_up()).await;
        let next = self.next();
        if next.done < handed {
            Some(SILENT.to_owned())
        } else {
            next.error.clone()
        }
    }

    /// Why what was handed over is not in the file, if it should be by now.
    pub fn trouble(&self) -> Option<String> {
        let next = self.next();
        match next.since {
            Some(since) if since.elapsed() > PATIENCE => Some(SILENT.to_owned()),
            _ => next.error.clone(),
        }
    }

    /// Whether the last write failed, and nothing newer is to be written.
    pub fn has_failed(&self) -> bool {
        let next = self.next();
        next.since.is_none() && next.error.is_some()
    }

    /// Whether somebody removed it. Not while it is being written, or the disk does not respond.
    pub async fn is_missing(&self) -> bool {
        let path = Arc::clone(&self.path);
        let is_missing = self.turn.work_at_once(move || !path.exists());
        is_missing.await.unwrap_or(false)
    }

    /// Removes it; nothing is written any more.
    ///
    /// # Errors
    ///
    /// When the file cannot be removed, or the disk does not respond.
    pub async fn remove(&self) -> Result<(), LedgerError> {
        *self.next() = Next {
            is_removed: true,
            ..Next::default()
        };
        // Also when nobody waits any more: what a disk still writes is removed after it.
        let file = self.clone();
        let removing =
            tokio::spawn(async move { file.with_turn(|path, _next| Ledger::remove(path)).await });
        match timeout(PATIENCE, removing).await {
            Ok(removed) => removed.ok().flatten().unwrap_or(Ok(())),
            Err(_elapsed) => Err(LedgerError::of(&self.path, Undone::Silent.into())),
        }
    }

    async fn catch_up(&self) {
        // Nothing is left of a thread that panics but what is not written.
        let _written = self
            .with_turn(|path, next| {
                let (ledger, number) = {
                    let mut next = lock(next);
                    (next.ledger.take(), next.handed)
                };
                let Some(ledger) = ledger else {
                    return;
                };
                let error = ledger.write(path).err().map(|error| error.to_string());
                let mut next = lock(next);
                // The traffic does not depend on it; the operator must know. It is tried again each second.
                match (&next.error, &error) {
                    (was, Some(error)) if was.as_ref() != Some(error) => {
                        tracing::error!(error, "failed to write the ledger");
                    }
                    (Some(_), None) => tracing::info!("the ledger can be written again"),
                    _ => {}
                }
                next.error = error;
                next.done = number;
                next.since = next.ledger.as_ref().map(|_newer| clock::now());
            })
            .await;
    }

    /// Works in a thread that has its turn until it is done, also when nobody waits for it any more.
    async fn with_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path, &Mutex<Next>) -> T + Send + 'static,
    ) -> Option<T> {
        let (path, next) = (Arc::clone(&self.path), Arc::clone(&self.next));
        self.turn.work(move || work(&path, &next)).await.ok()
    }

    fn next(&self) -> MutexGuard<'_, Next> {
        lock(&self.next)
    }
}

fn lock(next: &Mutex<Next>) -> MutexGuard<'_, Next> {
    next.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_id(last_id: u32) -> Ledger {
        Ledger {
            last_id,
            ..Ledger::default()
        }
    }

    #[tokio::test]
    async fn the_last_one_is_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.json");
        let file = LedgerFile::at(path.clone());
        for id in 1..=50 {
            file.write(with_id(id));
        }
        assert_eq!(file.written().await, None);
        assert_eq!(Ledger::read(&path).unwrap().last_id, 50);
        assert!(!file.is_missing().await);
        std::fs::remove_file(&path).unwrap();
        // The thread that was started first finds nothing to write.
        drop(file.turn.take().await);
        assert!(file.is_missing().await);
    }

    #[tokio::test]
    async fn what_is_removed_stays_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.json");
        let file = LedgerFile::at(path.clone());
        file.write(with_id(1));
        file.remove().await.unwrap();
        file.write(with_id(2));
        assert_eq!(file.written().await, None);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_said_until_it_can() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("state");
        std::fs::write(&place, "in the way").unwrap();
        let file = LedgerFile::at(place.join("web.json"));
        file.write(with_id(1));
        assert!(file.written().await.is_some());
        assert!(file.trouble().is_some());
        std::fs::remove_file(&place).unwrap();
        file.write(with_id(2));
        assert_eq!(file.written().await, None);
        assert_eq!(file.trouble(), None);
    }

    #[tokio::test]
    async fn what_comes_later_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let file = LedgerFile::at(dir.path().join("web.json"));
        let others = file.clone();
        let busy = tokio::spawn(async move {
            for id in 0.. {
                others.write(with_id(id));
                tokio::task::yield_now().await;
            }
        });
        for _ in 0..50 {
            file.write(with_id(0));
            assert_eq!(file.written().await, None);
        }
        busy.abort();
    }

    /// A thread that has its turn stands for a disk that does not respond.
    #[tokio::test]
    async fn nobody_waits_longer_than_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.json");
        let file = LedgerFile::at(path.clone());
        let turn = file.turn.take().await;
        file.write(with_id(1));
        assert_eq!(file.written().await.as_deref(), Some(SILENT));
        assert!(!file.is_missing().await);
        drop(turn);
        assert_eq!(file.written().await, None);
        assert_eq!(Ledger::read(&path).unwrap().last_id, 1);
    }
}
