//! A service as the rest of the agent sees it: each request goes to the part that does it.

use std::{
    ops::Deref,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Caller, Context, OpenError, Reporter, VerbError, open::Opening, parts::Parts,
    quiesced::Quiescing,
};
use crate::{
    api::wire::{
        AdoptRequest, DeployRequest, Done, ExecRequest, FlowList, ProfileRequest, PromoteRequest,
        RollbackRequest, ServiceStatus, UpgradeRequest, Windows,
    },
    config::{Places, ServiceConfig},
    datapath::Former,
    generation::exec::ExecSpec,
    observed::ObservedService,
    profile::Profile,
    store::Journal,
    sys::cgroup::Cgroup,
};

/// A service.
#[derive(Debug)]
pub struct Service {
    parts: Parts,
}

/// What never changes of a service is read as if it were the service's own.
impl Deref for Service {
    type Target = Context;

    fn deref(&self) -> &Context {
        self.parts.context()
    }
}

impl Service {
    /// Opens the service below `root`, the agent's cgroup: finds what an earlier agent left, which
    /// `former` says what may be done to, makes what is missing. Clients can connect when it returns.
    pub async fn open(
        config: ServiceConfig,
        places: Places,
        journal: &Journal,
        root: &Cgroup,
        former: Former,
    ) -> Result<Arc<Self>, OpenError> {
        let opening = Opening::below(root, config, places)?;
        let parts = opening.open(journal, former).await?;
        Ok(Arc::new(Self { parts }))
    }

    /// `Deploys::deploy`.
    pub async fn deploy(
        &self,
        request: DeployRequest,
        reporter: &Reporter,
    ) -> Result<Done, VerbError> {
        self.parts.deploys().deploy(request, reporter).await
    }

    /// `Adoptions::exec`.
    pub async fn exec(&self, request: ExecRequest, pid: u32) -> Result<ExecSpec, VerbError> {
        self.parts.adoptions().exec(request, pid).await
    }

    /// `Adoptions::adopt`.
    pub async fn adopt(
        &self,
        request: AdoptRequest,
        reporter: &Reporter,
    ) -> Result<Done, VerbError> {
        self.parts.adoptions().adopt(request, reporter).await
    }

    /// `Rollouts::promote`.
    pub async fn promote(
        &self,
        request: PromoteRequest,
        caller: Caller,
        reporter: &Reporter,
    ) -> Result<Done, VerbError> {
        let rollouts = self.parts.rollouts();
        rollouts.promote(request, caller, reporter).await
    }

    /// `Rollouts::upgrade`.
    pub async fn upgrade(
        &self,
        request: UpgradeRequest,
        caller: Caller,
        reporter: &Reporter,
    ) -> Result<Done, VerbError> {
        let rollouts = self.parts.rollouts();
        rollouts.upgrade(request, caller, reporter).await
    }

    /// `Rollouts::rollback`.
    pub async fn rollback(
        &self,
        request: RollbackRequest,
        caller: Caller,
        reporter: &Reporter,
    ) -> Result<Done, VerbError> {
        let rollouts = self.parts.rollouts();
        rollouts.rollback(request, caller, reporter).await
    }

    /// `Lives::stop`.
    pub async fn stop(
        &self,
        name: &str,
        park: bool,
        reporter: &Reporter,
    ) -> Result<Done, VerbError> {
        self.parts.lives().stop(name, park, reporter).await
    }

    /// `Down::down`.
    pub async fn down(&self) -> Result<Vec<String>, VerbError> {
        self.parts.down().down().await
    }

    /// `View::status`.
    pub async fn status(&self, asked: Instant) -> ServiceStatus {
        self.parts.view().status(asked).await
    }

    /// `View::observe`.
    pub(in crate::agent) async fn observe(&self, expire: Duration) -> ObservedService {
        self.parts.view().observe(expire).await
    }

    /// `View::windows`.
    pub(in crate::agent) fn windows(&self) -> Windows {
        self.parts.view().windows()
    }

    /// `View::list_flows`.
    pub(in crate::agent) async fn list_flows(&self, limit: usize) -> Result<FlowList, VerbError> {
        self.parts.view().list_flows(limit).await
    }

    /// `Profiler::profile`.
    pub async fn profile(&self, request: ProfileRequest) -> Result<Profile, VerbError> {
        let profiler = self.parts.profiler();
        profiler.profile(self, self.parts.state(), request).await
    }

    /// `Programs::await_renewal`.
    pub(in crate::agent) fn awaits_renewal(&self) -> bool {
        self.parts.programs().await_renewal(self)
    }

    /// `Programs::stay_as_they_are`.
    pub(in crate::agent) fn stays_as_it_is(&self, reason: String) {
        self.parts.programs().stay_as_they_are(reason);
    }

    /// `SharedState::unrecorded`.
    pub async fn unrecorded(&self) -> Option<String> {
        self.parts.state().unrecorded().await
    }

    /// `SharedState::log_unrecorded`.
    pub(in crate::agent) async fn log_unrecorded(&self) {
        self.parts.state().log_unrecorded(self.name()).await;
    }

    /// `Maintenance::look_after`.
    pub async fn look_after(self: Arc<Self>) {
        self.parts.maintenance().look_after().await;
    }

    /// The part that halts the service, and holds it for a successor.
    pub(in crate::agent) const fn quiescing(&self) -> &Quiescing {
        self.parts.quiescing()
    }
}
