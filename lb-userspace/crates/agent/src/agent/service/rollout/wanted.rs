//! What somebody else wants of a rollout while it is carried out.

use tokio::sync::watch;

use super::plan::Interrupt;
use crate::rollout::{Course, Event, step};

/// Hears of it.
pub(super) struct Wanted(watch::Receiver<Option<Interrupt>>);

impl Wanted {
    pub(super) fn new(interrupt: watch::Receiver<Option<Interrupt>>) -> Self {
        Self(interrupt)
    }

    /// What is wanted, if it changes anything where the rollout stands.
    pub(super) fn at(&self, course: Course) -> Option<Interrupt> {
        let interrupt = self.0.borrow().clone()?;
        changes(course, &interrupt).then_some(interrupt)
    }

    /// Returns when something is wanted that changes what is done there.
    pub(super) async fn comes(&self, course: Course) {
        let mut interrupt = self.0.clone();
        let heeds = |wanted: &Option<Interrupt>| {
            wanted
                .as_ref()
                .is_some_and(|wanted| changes(course, wanted))
        };
        if interrupt.wait_for(heeds).await.is_err() {
            // Whoever could want something is gone.
            std::future::pending::<()>().await;
        }
    }

    /// Whether the rollout is to be undone.
    pub(super) fn is_undo(&self) -> bool {
        let interrupt = self.0.borrow();
        interrupt
            .as_ref()
            .is_some_and(|wanted| wanted.event == Event::Undo)
    }
}

fn changes(course: Course, wanted: &Interrupt) -> bool {
    let (_, effects) = step(course, wanted.event);
    !effects.is_empty()
}
