//! One service: its generations, its parking listeners, its part of the kernel.
//!
//! [`Service`] is shared by the API's requests and by the watch task. Everything that changes stands in
//! [`SharedState`], or belongs to one of the components. The one exception is the steering word: it lives in the kernel,
//! and [`steering`] is its only writer.

#[macro_use]
mod context;

mod adopt;
mod again;
mod beside;
mod broken;
mod caller;
mod checks;
mod datagrams;
mod deploy;
mod down;
mod drain;
mod ending;
mod find;
mod flows;
mod foreign_programs;
mod freeze;
mod hung;
mod incidents;
mod kept_profiles;
mod lives;
mod network;
mod open;
mod outlet;
mod pace;
mod parking;
mod parks;
mod polite;
mod ports;
mod preflight;
mod processes;
mod profile;
mod programs;
mod quiesced;
mod recount;
mod registry;
mod reload;
mod report;
mod reports;
mod rollout;
mod seats;
mod shared;
mod slots;
mod steering;
mod view;
mod wake;
mod watch;
mod witness;
mod workers;

pub use caller::Caller;
pub use context::Context;
pub use preflight::preflight;
pub(super) use quiesced::QuiescedService;
pub use report::{Fulfilled, Reporter};

use std::{
    ops::Deref,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch as channel;

use adopt::Adoptions;
use again::Again;
use beside::beside;
use datagrams::Datagrams;
use deploy::Deploys;
use down::Down;
use ending::Endings;
use foreign_programs::ForeignProgramDetector;
use incidents::Incidents;
use lives::Lives;
use parking::Parking;
use polite::PoliteDrain;
use ports::ForeignPorts;
use profile::Profiler;
use programs::Programs;
use registry::Registry;
use reload::Reloads;
use reports::Reports;
use rollout::Rollouts;
use seats::Seats;
use shared::SharedState;
use view::snapshot::Snapshot;
use workers::WorkerBalance;

use super::{
    error::{
        AdoptError, CheckError, HostError, NotSharing, Now, OpenError, Unbound, UpgradeError,
        VerbError,
    },
    observed::ObservedService,
};
use crate::{
    api::wire::{
        AdoptRequest, DeployRequest, Done, ExecRequest, FlowList, ProfileRequest, PromoteRequest,
        RollbackRequest, ServiceStatus, UpgradeRequest, Windows,
    },
    generation::exec::ExecSpec,
    profile::Profile,
    rollout::Phase,
};

/// A service.
#[derive(Debug)]
pub struct Service {
    context: Arc<Context>,
    parking: Arc<Parking>,
    programs: Programs,
    workers: WorkerBalance,
    /// Everything that changes.
    state: SharedState,
    /// Who was asked to leave.
    polite: PoliteDrain,
    /// Whether its programs decide.
    foreign_programs: ForeignProgramDetector,
    /// True while nobody may look after it; `look_after` waits for it and ends.
    halted: channel::Sender<bool>,
    profiler: Profiler,
    /// What is known of its windows.
    incidents: Arc<Incidents>,
    /// Who of its generations serves.
    endings: Endings,
    seats: Seats,
    datagrams: Datagrams,
    ports: Arc<ForeignPorts>,
    lives: Arc<Lives>,
    deploys: Arc<Deploys>,
    adoptions: Arc<Adoptions>,
    rollouts: Arc<Rollouts>,
    reports: Arc<Reports>,
    reloads: Arc<Reloads>,
}

/// What never changes of a service is read as if it were the service's own.
impl Deref for Service {
    type Target = Context;

    fn deref(&self) -> &Context {
        &self.context
    }
}

impl Service {
    /// `Deploys::deploy`.
    pub async fn deploy(
        &self,
        request: DeployRequest,
        reporter: &Reporter,
    ) -> Result<Done, VerbError> {
        self.deploys.deploy(request, reporter).await
    }

    /// `Adoptions::exec`.
    pub async fn exec(&self, request: ExecRequest, pid: u32) -> Result<ExecSpec, VerbError> {
        self.adoptions.exec(request, pid).await
    }

    /// `Adoptions::adopt`.
    pub async fn adopt(
        &self,
        request: AdoptRequest,
        reporter: &Reporter,
    ) -> Result<Done, VerbError> {
        self.adoptions.adopt(request, reporter).await
    }

    /// `Rollouts::promote`.
    pub async fn promote(
        &self,
        request: PromoteRequest,
        caller: Caller,
        reporter: &Reporter,
    ) -> Result<Done, VerbError> {
        self.rollouts.promote(request, caller, reporter).await
    }

    /// `Rollouts::upgrade`.
    pub async fn upgrade(
        &self,
        request: UpgradeRequest,
        caller: Caller,
        reporter: &Reporter,
    ) -> Result<Done, VerbError> {
        self.rollouts.upgrade(request, caller, reporter).await
    }

    /// `Rollouts::rollback`.
    pub async fn rollback(
        &self,
        request: RollbackRequest,
        caller: Caller,
        reporter: &Reporter,
    ) -> Result<Done, VerbError> {
        self.rollouts.rollback(request, caller, reporter).await
    }

    /// `Lives::stop`.
    pub async fn stop(
        &self,
        name: &str,
        park: bool,
        reporter: &Reporter,
    ) -> Result<Done, VerbError> {
        self.lives.stop(name, park, reporter).await
    }

    /// `Down::down`.
    pub async fn down(&self) -> Result<Vec<String>, VerbError> {
        Down::of(&self.context, &self.state, &self.parking, &self.lives)
            .down()
            .await
    }

    /// Everything there is to say to who asked at this moment.
    pub async fn status(self: &Arc<Self>, asked: Instant) -> ServiceStatus {
        let judged = self.endings.judge_all(self, &self.state, asked).await;
        let waiting = self.ports.waiting_warning().await;
        let (snapshot, aim) = self
            .state
            .look(|registry| (Snapshot::take(self, registry), Again::aim(registry)))
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
        let registry = self.state.lock().await;
        Ok(flows::list(self, &flows, limit, |id| registry.name_of(id)))
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

    /// Waits for that, and says in the log what is to be said.
    pub(in crate::agent) async fn log_unrecorded(&self) {
        self.state.log_unrecorded(self.name()).await;
    }

    /// Has whoever looks after the service come to an end.
    pub(in crate::agent) fn halt(&self) {
        self.halted.send_replace(true);
    }

    /// Lets somebody look after the service again, and its rollouts go on.
    pub(in crate::agent) fn resume(&self) {
        self.journal.go_on();
        self.halted.send_replace(false);
    }

    /// Returns once the service is halted.
    pub(super) async fn is_halted(&self) {
        let mut halted = self.halted.subscribe();
        // It fails only when the sender is gone, and that one is here.
        let _halted = halted.wait_for(|halted| *halted).await;
    }

    /// Locks the registry and writes it down; what is under way in the journal is written too.
    ///
    /// # Errors
    ///
    /// [`UpgradeError::Busy`] as [`Service::refuse_busy`]; [`UpgradeError::NotHeld`] when
    /// something cannot be written: nobody else would know of it.
    pub(in crate::agent) async fn hold(&self) -> Result<QuiescedService, UpgradeError> {
        let parking = self.parking.hold().await;
        let polite = self.polite.turn().await;
        let guard = self.foreign_programs.hold().await;
        let registry = self.state.hold().await;
        self.refuse_busy_in(&registry)?;
        if let Some(error) = self.state.record(&registry).await {
            return Err(UpgradeError::NotHeld(error));
        }
        let written = self.journal.hold().await;
        written.map_err(|error| UpgradeError::NotHeld(error.to_string()))?;
        Ok(QuiescedService::new(registry, polite, guard, parking))
    }

    /// A successor goes on with a rollout in its bake or drain. In any other phase hooks run, or
    /// the traffic is about to move.
    ///
    /// # Errors
    ///
    /// [`UpgradeError::Busy`] for a rollout in such a phase.
    pub(in crate::agent) async fn refuse_busy(&self) -> Result<(), UpgradeError> {
        self.refuse_busy_in(&*self.state.lock().await)
    }

    fn refuse_busy_in(&self, registry: &Registry) -> Result<(), UpgradeError> {
        match registry.rollout() {
            Some(rollout) if rollout.phase != Phase::Bake => Err(UpgradeError::Busy(format!(
                "{} on service {} ({})",
                rollout.name(),
                self.name(),
                rollout.phase.name()
            ))),
            _ => Ok(()),
        }
    }
}
