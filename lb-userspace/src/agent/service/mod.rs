//! One service: its generations, its parking listeners, its part of the kernel.
//!
//! [`Service`] is shared by the API's requests and by the watch task. Everything that changes stands in
//! [`SharedState`], or belongs to one of the components. The one exception is the steering word: it lives in the kernel,
//! and [`steering`] is its only writer.

mod adopt;
mod again;
mod beside;
mod books;
mod broken;
mod caller;
mod candidate;
mod claim;
mod context;
mod custody;
mod datagrams;
mod deploy;
mod drain;
mod ending;
mod exec;
mod exec_check;
mod find;
mod flows;
mod freeze;
mod guard;
mod held;
mod hung;
mod in_flight;
mod incidents;
mod kept_profiles;
mod network;
mod open;
mod outlet;
mod outside;
mod pace;
mod parking;
mod parks;
mod polite;
mod preflight;
mod processes;
mod profile;
mod programs;
mod recount;
mod reload;
mod report;
mod rollout;
mod shared;
mod slots;
mod steering;
mod stop;
mod switch;
mod totals;
mod traced;
mod view;
mod wake;
mod watch;
mod witness;
mod workers;

use std::{
    ops::Deref,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch as channel;

pub use caller::Caller;
pub use context::Context;
pub(super) use custody::Held;
pub use preflight::preflight;
pub use report::{Fulfilled, Reporter};

use beside::beside;
use ending::Endings;
use guard::ProgramGuard;
use incidents::Incidents;
use parking::Parking;
use polite::PoliteDrain;
use profile::Profiler;
use programs::Programs;
use shared::SharedState;
use view::snapshot::Snapshot;
use workers::WorkerBalance;

use super::{
    error::{AdoptError, CheckError, NotSharing, Now, OpenError, VerbError},
    observed::ObservedService,
};
use crate::{
    api::wire::{FlowList, ProfileRequest, ServiceStatus, Windows},
    profile::Profile,
};

/// A service.
#[derive(Debug)]
pub struct Service {
    context: Arc<Context>,
    parking: Parking,
    programs: Programs,
    workers: WorkerBalance,
    /// Everything that changes.
    state: SharedState,
    /// Who was asked to leave.
    polite: PoliteDrain,
    /// Whether its programs decide.
    guard: ProgramGuard,
    /// True while nobody may look after it; `look_after` waits for it and ends.
    halted: channel::Sender<bool>,
    profiler: Profiler,
    /// What is known of its windows.
    incidents: Arc<Incidents>,
    /// Who of its generations serves.
    endings: Endings,
}

/// What never changes of a service is read as if it were the service's own.
impl Deref for Service {
    type Target = Context;

    fn deref(&self) -> &Context {
        &self.context
    }
}

impl Service {
    /// Everything there is to say to who asked at this moment.
    pub async fn status(self: &Arc<Self>, asked: Instant) -> ServiceStatus {
        let judged = self.endings.judge_all(self, &self.state, asked).await;
        let waiting = self.waiting_warning().await;
        let (snapshot, aim) = self
            .state
            .look(|books| (Snapshot::take(self, books), Self::aim(books)))
            .await;
        let context = Arc::clone(&self.context);
        let view = move || view::status::status(&context, &snapshot, asked, &judged, waiting);
        let mut status = beside(view).await;
        if let Some(aim) = aim {
            status.previous_change = aim.change().await;
        }
        status
    }

    /// Everything there is to measure now. Generations that ended longer ago than `expire` are
    /// in the totals only.
    pub(super) async fn observe(&self, expire: Duration) -> ObservedService {
        let snapshot = Snapshot::take(self, &*self.state.lock().await);
        let context = Arc::clone(&self.context);
        beside(move || view::metrics::observe(&context, snapshot, expire)).await
    }

    /// Samples one generation, or two at the same moment. Sampling ends when this is dropped.
    pub async fn profile(&self, request: ProfileRequest) -> Result<Profile, VerbError> {
        self.profiler.profile(self, &self.state, request).await
    }

    /// The newest windows of all generations, and their scores.
    pub(super) fn windows(&self) -> Windows {
        self.incidents.windows(self.name())
    }

    /// The `limit` flows with the latest datagrams.
    pub(super) async fn list_flows(&self, limit: usize) -> Result<FlowList, VerbError> {
        let flows = flows::read(&self.context).await?;
        let books = self.state.lock().await;
        Ok(flows::list(self, &flows, limit, |id| books.name_of(id)))
    }

    /// Whether the present programs could take the place of a former agent's, and were not told to.
    pub(super) fn awaits_renewal(&self) -> bool {
        self.programs.await_renewal(self)
    }

    /// It could not be opened anew: that is not tried again.
    pub(super) fn stays_as_it_is(&self, reason: String) {
        self.programs.stay_as_they_are(reason);
    }

    /// Waits until the next agent would know of all that was done. What is to be said if it would not.
    pub async fn unrecorded(&self) -> Option<String> {
        self.state.unrecorded().await
    }
}
