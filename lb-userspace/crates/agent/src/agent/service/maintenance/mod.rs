//! What is done for a service without being asked for, for as long as somebody looks after it.

mod background;
mod repairs;
mod tending;

pub(super) use background::Background;
pub(super) use tending::Tending;

use std::sync::Arc;

use super::{halt::Halt, incidents::Screening, reports::Reports};

/// Looks after a service.
#[derive(Debug)]
pub(super) struct Maintenance {
    background: Arc<Background>,
    tending: Tending,
    screening: Arc<Screening>,
    reports: Arc<Reports>,
    halt: Halt,
}

impl Maintenance {
    /// That of a service.
    pub(super) fn new(
        background: Background,
        tending: Tending,
        screening: Screening,
        reports: &Arc<Reports>,
        halt: &Halt,
    ) -> Self {
        Self {
            background: Arc::new(background),
            tending,
            screening: Arc::new(screening),
            reports: Arc::clone(reports),
            halt: halt.clone(),
        }
    }

    /// Looks after the service until it is halted.
    pub(super) async fn look_after(&self) {
        loop {
            self.look_after_once().await;
            // Else it was halted and resumed while a turn was being finished.
            if self.halt.is_halted() {
                return;
            }
        }
    }

    async fn look_after_once(&self) {
        let mut tasks = self.background.begin();
        // None of these is cut in the middle of a turn. They end together: one that was in a turn meanwhile would not
        // see that the service was halted if it is resumed by then.
        let over = Halt::default();
        let halted = async {
            self.halt.halted().await;
            over.halt();
        };
        tokio::join!(
            halted,
            self.reports.keep(over.halted()),
            self.tending.keep(&over),
            self.screening.keep(&over)
        );
        tasks.shutdown().await;
    }
}
