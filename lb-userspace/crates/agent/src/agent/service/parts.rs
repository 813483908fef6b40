//! What a service is composed of: every part is made here, on those below it.

use std::sync::Arc;

use super::{
    Context, OpenError,
    adopt::Adoptions,
    deploy::Deploys,
    down::Down,
    ending::Endings,
    foreign_programs::ForeignProgramDetector,
    halt::Halt,
    incidents::{Incidents, Screening},
    lives::Lives,
    maintenance::{Background, Maintenance, Tending},
    parking::Parking,
    polite::PoliteDrain,
    ports::strays::StrayDetector,
    profile::Profiler,
    programs::Programs,
    quiesced::Quiescing,
    recovery::Recovery,
    registry::Registry,
    reload::Reloads,
    reports::Reports,
    rollout::Rollouts,
    shared::SharedState,
    view::View,
    wake,
};
use crate::{
    datapath::Renewal,
    store::{Ledger, LedgerFile},
};

/// The parts of a service.
#[derive(Debug)]
pub(super) struct Parts {
    context: Arc<Context>,
    state: SharedState,
    parking: Arc<Parking>,
    polite: PoliteDrain,
    endings: Endings,
    programs: Arc<Programs>,
    profiler: Arc<Profiler>,
    lives: Arc<Lives>,
    deploys: Arc<Deploys>,
    adoptions: Arc<Adoptions>,
    rollouts: Arc<Rollouts>,
    down: Down,
    view: View,
    maintenance: Maintenance,
    quiescing: Quiescing,
}

impl Parts {
    /// Those of a service of which nothing is remembered yet.
    pub(super) fn of(context: Context, registry: Registry, parking: Parking) -> Self {
        let ledger = LedgerFile::at(context.places.ledger(context.name()));
        let state = SharedState::new(registry, ledger);
        let (context, parking) = (Arc::new(context), Arc::new(parking));
        let (polite, endings) = (PoliteDrain::default(), Endings::default());
        let halt = Halt::default();
        let programs = Arc::new(Programs::default());
        let foreign = Arc::new(ForeignProgramDetector::default());
        let strays = Arc::new(StrayDetector::default());
        let profiler = Arc::new(Profiler::default());
        let incidents = Arc::new(Incidents::default());

        let reloads = Arc::new(Reloads::new(&context, &state, &parking, &halt));
        let reports = Arc::new(Reports::new(&context, &state, &reloads));
        let lives = Lives::new(&context, &state, &parking, &polite, (&endings, &reports));
        let lives = Arc::new(lives);
        let deploys = Arc::new(Deploys::new(&context, &state, &parking, &lives));
        let adoptions = Adoptions::new(&context, &state, &parking, &endings, &lives);
        let adoptions = Arc::new(adoptions);
        let rollouts = Arc::new(Rollouts::new(&context, &state, &parking, &lives, &deploys));

        let (decide, measured) = ((&programs, &foreign, &strays), (&profiler, &incidents));
        let view = View::new(&context, &state, &parking, &endings, decide, measured);
        let detect = (&foreign, &strays);
        let background = Background::new(&context, &state, &parking, detect, &profiler, &reloads);
        let tending = Tending::new(&context, &state, &parking, &polite, &adoptions, &lives);
        let screening = Screening::new(&context, &state, &profiler, &incidents, &halt);
        Self {
            down: Down::new(&context, &state, &parking, &lives),
            maintenance: Maintenance::new(background, tending, screening, &reports, &halt),
            quiescing: Quiescing::new(&context, &state, &parking, &polite, &foreign, &halt),
            context,
            state,
            parking,
            polite,
            endings,
            programs,
            profiler,
            lives,
            deploys,
            adoptions,
            rollouts,
            view,
        }
    }

    /// Has clients connect, and takes up what an earlier agent left.
    pub(super) async fn begin(&self, ledger: Ledger) -> Result<(), OpenError> {
        if !self.state.look(Registry::awaits_adopt).await {
            self.adoptions.steer_adopted(&ledger).await;
            self.parking.open(&self.context, &self.state).await?;
        }
        let recovery = Recovery::new(
            &self.context,
            &self.state,
            &self.endings,
            &self.lives,
            &self.adoptions,
            &self.rollouts,
        );
        recovery.recover(ledger).await;
        self.state.log_unrecorded(self.context.name()).await;
        wake::after_another(
            Arc::clone(&self.context),
            self.state.clone(),
            self.polite.clone(),
            *self.context.path.renewal() != Renewal::None,
        );
        self.context.path.end_renewal();
        // Once those outside the service's cgroup are known.
        self.context.reserve()
    }

    /// What never changes.
    pub(super) fn context(&self) -> &Context {
        &self.context
    }

    /// Everything that changes.
    pub(super) const fn state(&self) -> &SharedState {
        &self.state
    }

    /// Whose programs decide.
    pub(super) fn programs(&self) -> &Programs {
        &self.programs
    }

    /// Where CPU time is spent.
    pub(super) fn profiler(&self) -> &Profiler {
        &self.profiler
    }

    /// Who serves, drains, stands by and ends.
    pub(super) const fn lives(&self) -> &Arc<Lives> {
        &self.lives
    }

    /// How generations are started.
    pub(super) const fn deploys(&self) -> &Arc<Deploys> {
        &self.deploys
    }

    /// How servers become generations that hotlb did not start.
    pub(super) const fn adoptions(&self) -> &Arc<Adoptions> {
        &self.adoptions
    }

    /// How another generation becomes active.
    pub(super) const fn rollouts(&self) -> &Arc<Rollouts> {
        &self.rollouts
    }

    /// How it ends.
    pub(super) const fn down(&self) -> &Down {
        &self.down
    }

    /// What is shown.
    pub(super) const fn view(&self) -> &View {
        &self.view
    }

    /// What is done unasked.
    pub(super) const fn maintenance(&self) -> &Maintenance {
        &self.maintenance
    }

    /// How nobody acts on it for a while.
    pub(super) const fn quiescing(&self) -> &Quiescing {
        &self.quiescing
    }
}
