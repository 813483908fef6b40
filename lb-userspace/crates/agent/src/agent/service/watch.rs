//! What happens without being asked for: generations end, the kernel reports, time passes.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use lb_common::{Event, EventKind, GenerationId};
use tokio::{task::JoinSet, time::MissedTickBehavior};

use super::{
    Service,
    beside::in_turn,
    books::{Books, Counting, Generation},
    broken::{kept_up, outlive},
    flows, freeze,
    hung::HangDetector,
    incidents, outlet,
    parking::someone_waits,
};
use crate::{
    agent::{
        drill,
        footing::{self, Support},
    },
    clock,
    config::{HandOver, ServiceConfig, Undeclared},
    datapath::{Events, PARKING},
    generation::keeper::Keeper,
    incident::Screened,
    rollout::GenerationState,
    sys::{
        listing::{LATELY, Listing},
        process,
        sock_diag::Protocol,
        users,
    },
};

/// How often a service is looked after.
const TEND: Duration = Duration::from_secs(1);
/// Bind reports kept for a generation.
const BINDS: usize = 8;

impl Service {
    /// Looks after the service until it is halted.
    pub async fn look_after(self: Arc<Self>) {
        let events = Events::open(self.path.pins())
            .inspect_err(
                |error| tracing::error!(service = self.name(), %error, "failed to open the events"),
            )
            .ok();
        // In tasks of their own, for they wait for the books, and take long now and then: events
        // must be heard meanwhile.
        let mut tasks = JoinSet::new();
        let guarded = Arc::clone(&self);
        tasks.spawn(async move {
            kept_up("foreign programs", || {
                guarded
                    .guard
                    .keep(&guarded.context, &guarded.state, &guarded.parking)
            })
            .await;
        });
        let profiled = Arc::clone(&self);
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
        let released = Arc::clone(&self);
        tasks.spawn(async move {
            kept_up("release of parked clients", || {
                released
                    .parking
                    .keep_releasing(&released.context, &released.state)
            })
            .await;
        });
        let written = Arc::clone(&self);
        tasks.spawn(async move {
            kept_up("output", || outlet::keep(&written.context, &written.state)).await;
        });
        tasks.spawn(Arc::clone(&self.reloads).keep_beating());
        self.attend(events).await;
        tasks.shutdown().await;
    }

    async fn attend(self: &Arc<Self>, mut events: Option<Events>) {
        let mut tend = tokio::time::interval(TEND);
        let mut windows = tokio::time::interval(incidents::EACH);
        windows.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                arrived = next(&mut events) => match arrived {
                    Ok(arrived) => outlive(self.name(), "event handling", self.heard(&arrived)).await,
                    Err(error) => {
                        // What is looked for once a second is found all the same.
                        tracing::error!(service = self.name(), %error, "failed to read the kernel's events");
                        events = None;
                    }
                },
                _ = tend.tick() => outlive(self.name(), "maintenance", self.tend()).await,
                _ = windows.tick() => outlive(self.name(), "window screening", self.screen()).await,
                () = self.is_halted() => return,
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
                .change(|books| books.tally.windows.add(counts))
                .await;
        }
    }

    /// Looks closely at what the first stage found, unless the service is halted.
    async fn capture(self: Arc<Self>, found: Screened) {
        let captured = async {
            let incidents = &self.incidents;
            let stored = incidents.capture(&self.context, &self.state, &self.profiler, found);
            if stored.await {
                let mut books = self.state.lock().await;
                books.tally.incidents += 1;
                self.state.settle(&books);
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
            let books = self.state.lock().await;
            let keeper = self.parking.keeper();
            let is_well = keeper.is_alive() && keeper.has_socket();
            if books.is_ending() || books.awaits_adopt || is_well && books.keeper_error.is_none() {
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
        self.state.change(|books| books.keeper_error = error).await;
    }

    /// Writes the ledger again if somebody removed it, or the last write failed.
    async fn write_again(&self) {
        let is_missing = self.state.ledger().is_missing().await;
        if !is_missing && !self.state.ledger().has_failed() {
            return;
        }
        {
            let books = self.state.lock().await;
            if books.is_ending() {
                return;
            }
            self.state.settle(&books);
        }
        if self.state.ledger().written().await.is_none() && is_missing {
            let path = self.places.ledger(self.name());
            footing::restored(Support::Ledger, format!("the ledger {}", path.display()));
        }
    }

    async fn heard(self: &Arc<Self>, events: &[Event]) {
        let parking = self.cgroup.child(PARKING).id().ok();
        let inherits = self.config.hand_over == HandOver::Inherit;
        let mut books = self.state.lock().await;
        for event in events {
            match event.kind {
                EventKind::Idle => {}
                EventKind::Bound => self.reloads.follow_bind(&mut books, event.cgroup),
                EventKind::Closed => {
                    if let Some(id) = GenerationId::new(event.generation) {
                        self.reloads.follow(&mut books, id);
                    }
                }
                // Keeper and shim bind as root what they have made over to the service's user.
                EventKind::ForeignUser if inherits || Some(event.cgroup) == parking => {}
                EventKind::BindRefused | EventKind::BindRewritten | EventKind::ForeignUser => {
                    note_bind(&mut books, event, &self.config);
                }
            }
        }
        drop(books);
        self.state.ring();
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
        let mut books = self.state.lock().await;
        let active = self.path.word().active;
        self.thaw_fallback(&books);
        let queued = listing.as_ref().map(|listing| books.parks.queued(listing));
        if let Some(queued) = queued {
            self.parking.compare(self, queued);
        }
        // Not by the count alone: a client of whom it does not tell would wait for ever.
        if someone_waits(self, active)
            || active.is_some() && queued.is_some_and(|queued| queued > 0)
        {
            self.parking.release();
        }
        self.expire(&mut books);
        let counted = |g: &&mut Generation| !g.state.is_live() && g.counting == Counting::On;
        for ended in books.generations.iter_mut().filter(counted) {
            if self.path.stop_counting(ended.id) {
                ended.counting = Counting::Over;
            }
        }
        books.counted_on.retain(|&id| !self.path.stop_counting(id));
        if let Some(listing) = listing {
            let parked = |cookie| books.parks.has(cookie);
            self.path
                .forget_listeners(|cookie| parked(cookie) || listing.get(cookie).is_some());
        }
    }

    /// Has the fallback run on when the active one has closed its listeners but lives:
    /// the kernel leads clients to it.
    fn thaw_fallback(&self, books: &Books) {
        let word = self.path.word();
        let gone = word.active.is_some_and(|active| !self.listens(active));
        let fallback = word.candidate.filter(|_| gone);
        if let Some(generation) = fallback.and_then(|id| books.get(id)) {
            freeze::thaw(self, &generation.cgroup);
        }
    }

    /// Ends what has been on standby long enough.
    fn expire(self: &Arc<Self>, books: &mut Books) {
        let now = clock::since_boot().as_secs();
        let usual = self.config.keep.time;
        let over: Vec<GenerationId> = books
            .generations
            .iter()
            .filter(|g| g.state == GenerationState::Standby)
            .filter(|g| now.saturating_sub(g.since) >= g.keep.unwrap_or(usual).as_secs())
            .map(|g| g.id)
            .collect();
        for id in over {
            self.lives.stop_in_background(books, id);
        }
    }
}

/// What the kernel reports; nothing any more where that has failed.
async fn next(events: &mut Option<Events>) -> io::Result<Vec<Event>> {
    match events {
        Some(events) => events.next().await,
        None => std::future::pending().await,
    }
}

/// Remembers what `join` did, with the generation whose process it was.
fn note_bind(books: &mut Books, event: &Event, config: &ServiceConfig) {
    let declared: Vec<String> = config
        .addresses()
        .map(|listen| listen.to_string())
        .collect();
    let asked = SocketAddr::new(event.bound_address(), event.port);
    let who = format!(
        "{} (pid {}, user {})",
        process::name(event.pid),
        event.pid,
        users::user_name(event.uid)
    );
    let text = match event.kind {
        EventKind::BindRefused => format!(
            "its bind of {asked} was refused, because that address is not declared and would take \
             clients before a promote: {} [{who}]",
            bind_advice(asked, &declared, config)
        ),
        EventKind::BindRewritten => {
            format!("its bind of {asked} was moved to the declared address")
        }
        EventKind::ForeignUser => format!(
            "it bound {asked} as user {} while the group belongs to user {}, which the kernel \
             refuses: set user = \"{0}\" for the service [{who}]",
            users::user_name(event.uid),
            users::user_name(config.identity.uid)
        ),
        EventKind::Idle | EventKind::Bound | EventKind::Closed => return,
    };
    tracing::warn!(pid = event.pid, uid = event.uid, address = %asked, "{text}");
    let owner = books
        .generations
        .iter_mut()
        .rev()
        .find(|g| g.cgroup.ids().contains(&event.cgroup));
    if let Some(generation) = owner {
        generation.binds.push(text);
        let excess = generation.binds.len().saturating_sub(BINDS);
        generation.binds.drain(..excess);
    }
}

/// What to do about a server that binds what is not declared.
fn bind_advice(asked: SocketAddr, declared: &[String], config: &ServiceConfig) -> String {
    let dual = asked.is_ipv6() && asked.ip().is_unspecified();
    let is_beside = |listen: SocketAddr| listen.is_ipv4() && listen.port() == asked.port();
    if dual && config.addresses().any(|listen| is_beside(listen.address)) {
        let (one, port) = (asked.ip(), asked.port());
        return format!(
            "if this is its only socket, it serves both families (Go, Java and node open such a \
             socket for 0.0.0.0, too): declare listen = [\"{asked}\"]; if it also binds \
             0.0.0.0:{port}, as redis does, declare both: listen = [\"0.0.0.0:{port}\", \
             \"[{one}]:{port}\"]"
        );
    }
    let there = format!("make the server listen on {}", declared.join(" and "));
    match config.undeclared {
        Undeclared::Rewrite => there,
        Undeclared::Refuse => format!("{there}, or set bind = \"rewrite\""),
    }
}
