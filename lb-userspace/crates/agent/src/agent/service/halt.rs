//! Whether somebody looks after a service.

use tokio::sync::watch;

/// Has whoever looks after a service come to an end. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Halt(watch::Sender<bool>);

impl Halt {
    /// They are to end.
    pub(super) fn halt(&self) {
        self.0.send_replace(true);
    }

    /// They may begin again.
    pub(super) fn resume(&self) {
        self.0.send_replace(false);
    }

    /// Whether they are to end at this moment.
    pub(super) fn is_halted(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns once they are to end.
    pub(super) async fn halted(&self) {
        let mut halted = self.0.subscribe();
        // It fails only when the sender is gone, and that one is here.
        let _halted = halted.wait_for(|halted| *halted).await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_clone_is_halted_and_resumed_too() {
        let (halt, of_another) = (Halt::default(), Halt::default());
        let shared = halt.clone();
        assert!(shared.halted().now_or_never().is_none());
        halt.halt();
        shared.halted().await;
        assert!(shared.is_halted());
        assert!(!of_another.is_halted());
        shared.resume();
        assert!(!halt.is_halted());
        assert!(halt.halted().now_or_never().is_none());
    }
}
