//! Once a second: what has no event of its own.

use std::{sync::Arc, time::Duration};

use lb_common::GenerationId;

use super::{
    super::{
        Context,
        adopt::Adoptions,
        beside::in_turn,
        broken::outlive,
        flows, freeze,
        halt::Halt,
        lives::Lives,
        parking::{Parking, someone_waits},
        polite::PoliteDrain,
        registry::{Generation, Registry},
        shared::SharedState,
        workers::WorkerBalance,
    },
    repairs::Repairs,
};
use crate::{
    agent::drill,
    clock,
    rollout::GenerationState,
    sys::{
        listing::{LATELY, Listing},
        sock_diag::Protocol,
    },
};

/// How often a service is looked after.
const TEND: Duration = Duration::from_secs(1);

/// Notices what nobody reports, and sets it right.
#[derive(Debug)]
pub(in crate::agent::service) struct Tending {
    context: Arc<Context>,
    state: SharedState,
    parking: Arc<Parking>,
    polite: PoliteDrain,
    adoptions: Arc<Adoptions>,
    lives: Arc<Lives>,
    workers: WorkerBalance,
    repairs: Repairs,
}

context_of!(Tending);

impl Tending {
    /// That of a service.
    pub(in crate::agent::service) fn new(
        context: &Arc<Context>,
        state: &SharedState,
        parking: &Arc<Parking>,
        polite: &PoliteDrain,
        adoptions: &Arc<Adoptions>,
        lives: &Arc<Lives>,
    ) -> Self {
        Self {
            context: Arc::clone(context),
            state: state.clone(),
            parking: Arc::clone(parking),
            polite: polite.clone(),
            adoptions: Arc::clone(adoptions),
            lives: Arc::clone(lives),
            workers: WorkerBalance::default(),
            repairs: Repairs::new(context, state, parking),
        }
    }

    /// Tends once a second, until it is `over`.
    pub(super) async fn keep(&self, over: &Halt) {
        let mut turns = tokio::time::interval(TEND);
        loop {
            tokio::select! {
                _ = turns.tick() => outlive(self.name(), "maintenance", self.tend()).await,
                () = over.halted() => return,
            }
        }
    }

    async fn tend(&self) {
        drill::point("tend");
        self.repairs.keep_again().await;
        self.repairs.write_again().await;
        self.adoptions.adopt_again().await;
        self.polite.settle(&self.context, &self.state).await;
        outlive(self.name(), "flow table", flows::tend(&self.context)).await;
        self.workers.tend(&self.context, &self.state).await;
        let netns = self.netns.clone();
        let listing = in_turn(move || Listing::recent(&netns, Protocol::Tcp, LATELY).ok()).await;
        let mut registry = self.state.lock().await;
        let active = self.path.word().active;
        self.thaw_fallback(&registry);
        let queued = listing
            .as_ref()
            .map(|listing| registry.parks().queued(listing));
        if let Some(queued) = queued {
            self.parking.compare(self, queued);
        }
        // Not by the count alone: a client of whom it does not tell would wait for ever.
        if someone_waits(self, active)
            || active.is_some() && queued.is_some_and(|queued| queued > 0)
        {
            self.parking.release();
        }
        self.expire(&mut registry);
        registry.stop_counting(|id| self.path.stop_counting(id));
        if let Some(listing) = listing {
            let parked = |cookie| registry.parks().has(cookie);
            self.path
                .forget_listeners(|cookie| parked(cookie) || listing.get(cookie).is_some());
        }
    }

    /// Has the fallback run on when the active one has closed its listeners but lives:
    /// the kernel leads clients to it.
    fn thaw_fallback(&self, registry: &Registry) {
        let word = self.path.word();
        let gone = word.active.is_some_and(|active| !self.listens(active));
        let fallback = word.candidate.filter(|_| gone);
        if let Some(generation) = fallback.and_then(|id| registry.get(id)) {
            freeze::thaw(self, generation.cgroup());
        }
    }

    /// Ends what has been on standby long enough.
    fn expire(&self, registry: &mut Registry) {
        let now = clock::since_boot().as_secs();
        let usual = self.config.keep.time;
        let over: Vec<GenerationId> = registry
            .all()
            .filter(|g| g.state() == GenerationState::Standby)
            .filter(|g| now.saturating_sub(g.since()) >= g.keep().unwrap_or(usual).as_secs())
            .map(Generation::id)
            .collect();
        for id in over {
            self.lives.stop_in_background(registry, id);
        }
    }
}
