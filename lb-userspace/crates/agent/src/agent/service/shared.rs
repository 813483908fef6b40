//! The state of a service as its tasks and verbs share it: one lock, the ledger it is written to, and a bell for those who
//! wait for a change.

use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard, Notify, OwnedMutexGuard, futures::Notified};

use super::{pace::Pace, registry::Registry, view};
use crate::store::LedgerFile;

/// Everything that changes of a service. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct SharedState(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    registry: Arc<Mutex<Registry>>,
    /// What the next agent is to know.
    ledger: LedgerFile,
    /// Rung at every change, and at every event from the kernel.
    changed: Notify,
}

impl SharedState {
    pub(super) fn new(registry: Registry, ledger: LedgerFile) -> Self {
        Self(Arc::new(Shared {
            registry: Arc::new(Mutex::new(registry)),
            ledger,
            changed: Notify::new(),
        }))
    }

    /// For several steps that nobody may come between. Held for moments, and never while waiting for a server, a
    /// connection or the keeper.
    pub(super) async fn lock(&self) -> MutexGuard<'_, Registry> {
        self.0.registry.lock().await
    }

    /// Takes it for as long as nobody may act on the service.
    pub(super) async fn hold(&self) -> OwnedMutexGuard<Registry> {
        Arc::clone(&self.0.registry).lock_owned().await
    }

    /// What `question` finds.
    pub(super) async fn look<T>(&self, question: impl FnOnce(&Registry) -> T) -> T {
        question(&*self.lock().await)
    }

    /// Changes it in one step. Nobody is told: see [`SharedState::settle`].
    pub(super) async fn change<T>(&self, step: impl FnOnce(&mut Registry) -> T) -> T {
        step(&mut *self.lock().await)
    }

    /// Has it written down, soon, and wakes everybody who waits for a change.
    pub(super) fn settle(&self, registry: &Registry) {
        if registry.is_gone() {
            return;
        }
        self.0.ledger.write(registry.to_ledger());
        self.ring();
    }

    /// Has the next agent know of a step before it is done. Says why it would not. Whoever waits for the lock waits for
    /// the disk here, within its limit: an adoption that another verb came between could not be taken back.
    pub(super) async fn record(&self, registry: &Registry) -> Option<String> {
        self.settle(registry);
        self.0.ledger.written().await
    }

    /// The file it is written to.
    pub(super) fn ledger(&self) -> &LedgerFile {
        &self.0.ledger
    }

    /// Waits until the next agent would know of all that was done. What is to be said if it would not.
    pub(super) async fn unrecorded(&self) -> Option<String> {
        let error = self.0.ledger.written().await?;
        Some(view::warnings::of_ledger(&error))
    }

    /// Waits until the next agent would know of all that was done with the service, and says in the log if it would
    /// not.
    pub(super) async fn log_unrecorded(&self, service: &str) {
        if let Some(unrecorded) = self.unrecorded().await {
            tracing::error!(
                service,
                reason = unrecorded,
                "failed to record what was done in the ledger"
            );
        }
    }

    /// Wakes everybody who waits for a change.
    pub(super) fn ring(&self) {
        self.0.changed.notify_waiters();
    }

    /// The next change.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.0.changed.notified()
    }

    /// Waits for a reason to look again: a change, an event from the kernel, or the pace. False once the deadline is
    /// over.
    pub(super) async fn look_again(&self, pace: &mut Pace) -> bool {
        pace.wait(&self.0.changed).await
    }
}
