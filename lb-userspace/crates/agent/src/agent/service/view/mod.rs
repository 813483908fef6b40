//! What is shown of a service: computed of a snapshot, when the lock of the state is free again.

pub(super) mod accounting;
mod hung;
mod metrics;
mod snapshot;
mod status;
mod steering;
pub(super) mod warnings;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Context, VerbError,
    again::Again,
    beside::beside,
    ending::Endings,
    flows,
    foreign_programs::ForeignProgramDetector,
    incidents::Incidents,
    parking::Parking,
    ports::{ForeignPorts, strays::StrayDetector},
    profile::Profiler,
    programs::Programs,
    shared::SharedState,
};
use crate::{
    api::wire::{FlowList, ServiceStatus, Windows},
    observed::ObservedService,
};
use snapshot::Snapshot;

/// Shows a service to who asks.
#[derive(Debug)]
pub(super) struct View {
    context: Arc<Context>,
    state: SharedState,
    parking: Arc<Parking>,
    endings: Endings,
    ports: Arc<ForeignPorts>,
    programs: Arc<Programs>,
    foreign_programs: Arc<ForeignProgramDetector>,
    strays: Arc<StrayDetector>,
    profiler: Arc<Profiler>,
    incidents: Arc<Incidents>,
}

context_of!(View);

impl View {
    /// That of a service.
    pub(super) fn new(
        context: &Arc<Context>,
        state: &SharedState,
        parking: &Arc<Parking>,
        endings: &Endings,
        (programs, foreign_programs, strays): (
            &Arc<Programs>,
            &Arc<ForeignProgramDetector>,
            &Arc<StrayDetector>,
        ),
        (profiler, incidents): (&Arc<Profiler>, &Arc<Incidents>),
    ) -> Self {
        Self {
            context: Arc::clone(context),
            state: state.clone(),
            parking: Arc::clone(parking),
            endings: endings.clone(),
            ports: Arc::new(ForeignPorts::new(context, state, parking)),
            programs: Arc::clone(programs),
            foreign_programs: Arc::clone(foreign_programs),
            strays: Arc::clone(strays),
            profiler: Arc::clone(profiler),
            incidents: Arc::clone(incidents),
        }
    }

    /// Everything there is to say to who asked at this moment.
    pub(super) async fn status(&self, asked: Instant) -> ServiceStatus {
        let judged = self.endings.judge_all(self, &self.state, asked).await;
        let waiting = self.ports.waiting_warning().await;
        let (snapshot, aim) = self
            .state
            .look(|registry| (Snapshot::take(self, registry), Again::aim(registry)))
            .await;
        let context = Arc::clone(&self.context);
        let view = move || status::status(&context, &snapshot, asked, &judged, waiting);
        let mut status = beside(view).await;
        if let Some(aim) = aim {
            status.previous_change = aim.change().await;
        }
        status
    }

    /// Everything there is to measure now. Generations that ended longer ago than `expire` are
    /// in the totals only.
    pub(super) async fn observe(&self, expire: Duration) -> ObservedService {
        let snapshot = self
            .state
            .look(|registry| Snapshot::take(self, registry))
            .await;
        let context = Arc::clone(&self.context);
        beside(move || metrics::observe(&context, snapshot, expire)).await
    }

    /// The newest windows of all generations, and their scores.
    pub(super) fn windows(&self) -> Windows {
        self.incidents.windows(self.name())
    }

    /// The `limit` flows with the latest datagrams.
    pub(super) async fn list_flows(&self, limit: usize) -> Result<FlowList, VerbError> {
        let flows = flows::read(&self.context).await?;
        let registry = self.state.lock().await;
        Ok(flows::list(self, &flows, limit, |id| registry.name_of(id)))
    }
}
