//! A service that nobody acts on for a while.

use std::sync::Arc;

use tokio::sync::OwnedMutexGuard;

use super::{
    Context, UpgradeError,
    foreign_programs::ForeignProgramDetector,
    halt::Halt,
    parking::Parking,
    polite::{self, PoliteDrain},
    registry::Registry,
    shared::SharedState,
};
use crate::rollout::Phase;

/// Takes a service into quiescing: first whoever looks after it is halted, then it is held.
#[derive(Debug)]
pub(in crate::agent) struct Quiescing {
    context: Arc<Context>,
    state: SharedState,
    parking: Arc<Parking>,
    polite: PoliteDrain,
    foreign_programs: Arc<ForeignProgramDetector>,
    halt: Halt,
}

context_of!(Quiescing);

impl Quiescing {
    /// That of a service.
    pub(super) fn new(
        context: &Arc<Context>,
        state: &SharedState,
        parking: &Arc<Parking>,
        polite: &PoliteDrain,
        foreign_programs: &Arc<ForeignProgramDetector>,
        halt: &Halt,
    ) -> Self {
        Self {
            context: Arc::clone(context),
            state: state.clone(),
            parking: Arc::clone(parking),
            polite: polite.clone(),
            foreign_programs: Arc::clone(foreign_programs),
            halt: halt.clone(),
        }
    }

    /// Has whoever looks after the service come to an end.
    pub(in crate::agent) fn halt(&self) {
        self.halt.halt();
    }

    /// Lets somebody look after the service again, and its rollouts go on.
    pub(in crate::agent) fn resume(&self) {
        self.journal.go_on();
        self.halt.resume();
    }

    /// Locks the registry and writes it down; what is under way in the journal is written too.
    ///
    /// # Errors
    ///
    /// [`UpgradeError::Busy`] as [`Quiescing::refuse_busy`]; [`UpgradeError::NotHeld`] when
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
        Ok(QuiescedService {
            registry,
            polite,
            guard,
            parking,
        })
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

/// The registry of a service, locked, and its handle of the journal, held. Whatever any task of this
/// process would do to the service, or write of it, waits until this is dropped and the service
/// resumed.
#[derive(Debug)]
pub(in crate::agent) struct QuiescedService {
    registry: OwnedMutexGuard<Registry>,
    /// Nobody asks connections to leave, or ends them.
    polite: polite::Turn,
    /// Nobody attaches programs.
    guard: OwnedMutexGuard<()>,
    /// Nobody opens or closes parking listeners.
    parking: OwnedMutexGuard<()>,
}

impl QuiescedService {
    /// Locks the registry until this process ends.
    pub(in crate::agent) fn for_ever(self) {
        Box::leak(Box::new((
            self.registry,
            self.polite,
            self.guard,
            self.parking,
        )));
    }
}
