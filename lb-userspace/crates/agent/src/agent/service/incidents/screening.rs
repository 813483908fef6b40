//! Once a second: the first stage is done, and the second one begun for what it found.

use std::sync::Arc;

use tokio::time::MissedTickBehavior;

use super::{
    super::{Context, broken::outlive, halt::Halt, profile::Profiler, shared::SharedState},
    EACH, Incidents,
};
use crate::incident::Screened;

/// Finds the incidents of a service, all the time.
#[derive(Debug)]
pub(in crate::agent::service) struct Screening {
    context: Arc<Context>,
    state: SharedState,
    profiler: Arc<Profiler>,
    incidents: Arc<Incidents>,
    /// That of the service.
    halt: Halt,
}

context_of!(Screening);

impl Screening {
    /// That of a service.
    pub(in crate::agent::service) fn new(
        context: &Arc<Context>,
        state: &SharedState,
        profiler: &Arc<Profiler>,
        incidents: &Arc<Incidents>,
        halt: &Halt,
    ) -> Self {
        Self {
            context: Arc::clone(context),
            state: state.clone(),
            profiler: Arc::clone(profiler),
            incidents: Arc::clone(incidents),
            halt: halt.clone(),
        }
    }

    /// Screens one second after the other, until it is `over`.
    pub(in crate::agent::service) async fn keep(self: &Arc<Self>, over: &Halt) {
        let mut turns = tokio::time::interval(EACH);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = turns.tick() => outlive(self.name(), "window screening", self.screen()).await,
                () = over.halted() => return,
            }
        }
    }

    /// The first stage of finding incidents; the second is begun for each that it finds.
    async fn screen(self: &Arc<Self>) {
        let (unusual, counts) = self.incidents.judge(&self.context, &self.state).await;
        for window in unusual {
            tokio::spawn(Arc::clone(self).capture(window));
        }
        if let Some(counts) = counts {
            self.state
                .change(|registry| registry.sums_mut().rollout_stats_mut().screened(counts))
                .await;
        }
    }

    /// Looks closely at what the first stage found, unless the service is halted.
    async fn capture(self: Arc<Self>, found: Screened) {
        let captured = async {
            let incidents = &self.incidents;
            let stored = incidents.capture(&self.context, &self.state, &self.profiler, found);
            if stored.await {
                let mut registry = self.state.lock().await;
                registry.sums_mut().rollout_stats_mut().incident();
                self.state.settle(&registry);
            }
        };
        tokio::select! {
            () = self.halt.halted() => {}
            () = captured => {}
        }
        self.incidents.captured();
    }
}
