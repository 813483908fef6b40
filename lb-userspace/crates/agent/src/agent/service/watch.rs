//! What is done for a service without being asked for, for as long as somebody looks after it.

use std::{sync::Arc, time::Duration};

use lb_common::GenerationId;
use tokio::{sync::watch as channel, task::JoinSet, time::MissedTickBehavior};

use super::{
    Service,
    beside::in_turn,
    broken::{kept_up, outlive},
    flows, freeze,
    hung::HangDetector,
    incidents, outlet,
    parking::someone_waits,
    registry::{Generation, Registry},
};
use crate::{
    agent::{
        drill,
        footing::{self, Support},
    },
    clock,
    datapath::PARKING,
    generation::keeper::Keeper,
    incident::Screened,
    rollout::GenerationState,
    sys::{
        listing::{LATELY, Listing},
        sock_diag::Protocol,
    },
};

/// How often a service is looked after.
const TEND: Duration = Duration::from_secs(1);

impl Service {
    /// Looks after the service until it is halted.
    pub async fn look_after(self: Arc<Self>) {
        loop {
            self.look_after_once().await;
            // Else it was halted and resumed while a turn was being finished.
            if *self.halted.borrow() {
                return;
            }
        }
    }

    async fn look_after_once(self: &Arc<Self>) {
        // In tasks of their own, for they take long now and then.
        let mut tasks = JoinSet::new();
        let looked = Arc::clone(self);
        tasks.spawn(async move {
            kept_up("foreign programs", || {
                looked
                    .foreign_programs
                    .keep(&looked.context, &looked.state, &looked.parking)
            })
            .await;
        });
        let profiled = Arc::clone(self);
        tasks.spawn(async move {
            kept_up("profiling", || {
                profiled.profiler.keep(&profiled.context, &profiled.state)
            })
            .await;
        });
        let detector = HangDetector::new(Arc::clone(&self.context), self.state.clone());
        tasks.spawn(async move {
            kept_up("hang detection", || detector.keep()).await;
        });
        let released = Arc::clone(self);
        tasks.spawn(async move {
            kept_up("release of parked clients", || {
                released
                    .parking
                    .keep_releasing(&released.context, &released.state)
            })
            .await;
        });
        let written = Arc::clone(self);
        tasks.spawn(async move {
            kept_up("output", || outlet::keep(&written.context, &written.state)).await;
        });
        tasks.spawn(Arc::clone(&self.reloads).keep_beating());
        // None of these is cut in the middle of a turn. They end together: one that was in a turn meanwhile would not
        // see that the service was halted if it is resumed by then.
        let over = channel::Sender::new(false);
        let halted = async {
            self.is_halted().await;
            over.send_replace(true);
        };
        tokio::join!(
            halted,
            self.reports.keep(is_over(&over)),
            self.keep_tending(&over),
            self.keep_screening(&over)
        );
        tasks.shutdown().await;
    }

    async fn keep_tending(self: &Arc<Self>, over: &channel::Sender<bool>) {
        let mut turns = tokio::time::interval(TEND);
        loop {
            tokio::select! {
                _ = turns.tick() => outlive(self.name(), "maintenance", self.tend()).await,
                () = is_over(over) => return,
            }
        }
    }

    async fn keep_screening(self: &Arc<Self>, over: &channel::Sender<bool>) {
        let mut turns = tokio::time::interval(incidents::EACH);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = turns.tick() => outlive(self.name(), "window screening", self.screen()).await,
                () = is_over(over) => return,
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
            () = self.is_halted() => {}
            () = captured => {}
        }
        self.incidents.captured();
    }

    /// Starts the keeper again if somebody killed it. What waited in its listeners has moved to whom
    /// `steer` chose, or is lost.
    async fn keep_again(&self) {
        {
            let registry = self.state.lock().await;
            let keeper = self.parking.keeper();
            let is_well = keeper.is_alive() && keeper.has_socket();
            if registry.is_ending()
                || registry.awaits_adopt()
                || is_well && registry.keeper_error().is_none()
            {
                return;
            }
            if keeper.is_alive() && !keeper.has_socket() {
                let what = format!("the socket of {}'s keeper", self.name());
                footing::restored(Support::Keeper, what);
            } else {
                tracing::error!(service = self.name(), "the keeper ended; starting it again");
            }
        }
        let parking = self.cgroup.child(PARKING);
        let started =
            Keeper::find_or_start(self.places.keeper(self.name()), &parking, &self.netns).await;
        let error = match started {
            Ok((keeper, _)) => {
                self.parking.replace_keeper(keeper);
                self.parking
                    .open(self, &self.state)
                    .await
                    .err()
                    .map(|error| error.to_string())
            }
            Err(error) => Some(error.to_string()),
        };
        if let Some(error) = &error {
            tracing::error!(service = self.name(), error, "failed to start a keeper");
        }
        self.state
            .change(|registry| registry.note_keeper(error))
            .await;
    }

    /// Writes the ledger again if somebody removed it, or the last write failed.
    async fn write_again(&self) {
        let is_missing = self.state.ledger().is_missing().await;
        if !is_missing && !self.state.ledger().has_failed() {
            return;
        }
        {
            let registry = self.state.lock().await;
            if registry.is_ending() {
                return;
            }
            self.state.settle(&registry);
        }
        if self.state.ledger().written().await.is_none() && is_missing {
            let path = self.places.ledger(self.name());
            footing::restored(Support::Ledger, format!("the ledger {}", path.display()));
        }
    }

    /// Once a second: what has no event of its own.
    async fn tend(self: &Arc<Self>) {
        drill::point("tend");
        self.keep_again().await;
        self.write_again().await;
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
    fn expire(self: &Arc<Self>, registry: &mut Registry) {
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

/// Returns once those who look after a service are to end.
async fn is_over(over: &channel::Sender<bool>) {
    let mut over = over.subscribe();
    // It fails only when the sender is gone, and that one outlives them.
    let _over = over.wait_for(|over| *over).await;
}
