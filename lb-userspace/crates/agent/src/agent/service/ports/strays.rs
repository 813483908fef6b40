//! Sockets that take a service's clients past its groups, or could. Whoever opens one tells nobody: they are looked for
//! once a second.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::time::{MissedTickBehavior, interval};

use super::{
    super::{
        Context,
        beside::{beside, in_turn},
        registry::Registry,
        shared::SharedState,
    },
    ForeignListener, place,
};
use crate::{
    clock,
    generation::stray::{Stray, stray},
    sys::{
        cgroup::Cgroup,
        listener::GroupKey,
        listing::{LATELY, Listing},
        process,
        sock_diag::{Protocol, Waiting},
    },
};

/// How often it is looked for them.
const EACH: Duration = Duration::from_secs(1);
/// All of /proc is read to find who holds one. Whoever opens and closes them makes hotlb do that for one part in so many
/// of the time at most.
const SEARCH: u32 = 20;
/// So many are named in `status`.
const NAMED: usize = 4;

/// A socket at a service's ports that is not as it should be.
#[derive(Clone, Debug)]
struct StraySocket {
    how: Stray,
    /// With the declared address whose clients it gets, and who holds it.
    listener: ForeignListener,
    /// The generation that made it; `None` for a process outside the service.
    generation: Option<String>,
    /// Somebody has looked who holds it.
    is_searched: bool,
}

impl StraySocket {
    fn cookie(&self) -> u64 {
        self.listener.socket.cookie
    }

    /// Who has it, and where it is.
    fn whose(&self) -> String {
        match &self.generation {
            Some(name) => format!("{name}, listening on {}", place(&self.listener.socket)),
            None => self.listener.describe(),
        }
    }

    fn warning(&self) -> String {
        let (whose, declared) = (self.whose(), self.listener.declared);
        let end = match &self.generation {
            Some(name) => format!("make the server listen on {declared} only, or stop {name}"),
            None => "end that process, or make it listen elsewhere".to_owned(),
        };
        match self.how {
            Stray::Slotless => format!(
                "{whose}, shares the port of {declared} without being a generation: it gets no clients while hotlb's \
                 program decides, and may attach another one; {end}"
            ),
            Stray::Device => format!(
                "{whose}, takes clients of that device from {declared}, whichever generation is active; {end}"
            ),
            Stray::Narrower | Stray::OtherKind => format!(
                "{whose}, takes clients from {declared}, whichever generation is active; {end}, or declare its \
                 address, too"
            ),
        }
    }
}

/// What was found when it was looked last.
#[derive(Clone, Debug, Default)]
pub(in crate::agent::service) struct StraySockets(Vec<StraySocket>);

impl StraySockets {
    /// How many there are.
    pub(in crate::agent::service) fn count(&self) -> u64 {
        self.0.len() as u64
    }

    /// What they mean.
    pub(in crate::agent::service) fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = self
            .0
            .iter()
            .take(NAMED)
            .map(StraySocket::warning)
            .collect();
        if let more @ 1.. = self.0.len().saturating_sub(NAMED) {
            warnings.push(format!(
                "{more} more sockets share the service's ports without being in its groups: see `ss -tulpn`"
            ));
        }
        warnings
    }
}

/// Looks for them.
#[derive(Debug, Default)]
pub(in crate::agent::service) struct StrayDetector(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    found: StraySockets,
    /// When it was searched last who holds some, and how long that took.
    searched: Option<(Instant, Duration)>,
}

impl StrayDetector {
    /// What was found last.
    pub(in crate::agent::service) fn found(&self) -> StraySockets {
        self.seen().found.clone()
    }

    /// Looks once a second, for ever.
    pub(in crate::agent::service) async fn keep(
        &self,
        context: &Arc<Context>,
        state: &SharedState,
    ) {
        let mut each = interval(EACH);
        each.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            each.tick().await;
            self.look(context, state).await;
        }
    }

    async fn look(&self, context: &Arc<Context>, state: &SharedState) {
        let own = state.look(|registry| Own::of(context, registry)).await;
        let Some(own) = own else {
            self.note(context, Vec::new());
            return;
        };
        let of = Arc::clone(context);
        let mut found = in_turn(move || own.strays(&of)).await;
        {
            let seen = self.seen();
            for stray in &mut found {
                let mut known = seen.found.0.iter();
                if let Some(known) = known.find(|known| known.cookie() == stray.cookie()) {
                    stray.listener.pid = known.listener.pid;
                    stray.is_searched = known.is_searched;
                }
            }
        }
        if found.iter().any(|stray| !stray.is_searched) && self.may_search() {
            let began = clock::now();
            found = beside(move || search(found)).await;
            self.seen().searched = Some((clock::now(), began.elapsed()));
        }
        self.note(context, found);
    }

    fn may_search(&self) -> bool {
        let last = self.seen().searched;
        last.is_none_or(|(at, took)| at.elapsed() >= took * SEARCH)
    }

    fn note(&self, context: &Context, found: Vec<StraySocket>) {
        let mut seen = self.seen();
        for stray in &found {
            let mut known = seen.found.0.iter();
            let was = known.find(|known| known.cookie() == stray.cookie());
            if stray.is_searched && !was.is_some_and(|was| was.is_searched) {
                tracing::warn!(
                    service = context.name(),
                    declared = %stray.listener.declared,
                    how = ?stray.how,
                    whose = stray.whose(),
                    "found a socket at the service's port outside its groups"
                );
            }
        }
        seen.found = StraySockets(found);
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is the service's own.
#[derive(Debug)]
struct Own {
    listeners: Vec<GroupKey>,
    datagrams: Vec<GroupKey>,
    /// The sockets that have slots, and the parking listeners.
    cookies: HashSet<u64>,
    generations: Vec<(String, Cgroup)>,
}

impl Own {
    /// `None` while none of it is.
    fn of(context: &Context, registry: &Registry) -> Option<Self> {
        if registry.is_ending() || registry.awaits_adopt() {
            return None;
        }
        let config = &context.config;
        let udp = config.datagrams.iter().flat_map(|udp| &udp.listen);
        let slots = registry.living().flat_map(|g| g.slots().cookies());
        let parks = registry.parks().all().iter().map(|parked| parked.cookie);
        let living = registry.living();
        Some(Self {
            listeners: registry.parks().group_keys(),
            datagrams: udp.map(|&address| config.group_key(address)).collect(),
            cookies: slots.chain(parks).collect(),
            generations: living
                .map(|g| (g.name().to_owned(), g.cgroup().clone()))
                .collect(),
        })
    }

    /// The stray ones, as the kernel lists sockets now; a list that it does not give has none.
    fn strays(&self, context: &Context) -> Vec<StraySocket> {
        let mut found = Vec::new();
        for (protocol, groups) in [
            (Protocol::Tcp, &self.listeners),
            (Protocol::Udp, &self.datagrams),
        ] {
            if groups.is_empty() {
                continue;
            }
            let Ok(listing) = Listing::recent(&context.netns, protocol, LATELY) else {
                continue;
            };
            let others = listing.all().iter();
            let others = others.filter(|socket| !self.cookies.contains(&socket.cookie));
            found
                .extend(others.filter_map(|socket| Some((stray(groups, socket)?, socket.clone()))));
        }
        if found.is_empty() {
            return Vec::new();
        }
        let makers = Makers::of(context, &self.generations);
        found
            .into_iter()
            .filter_map(|(at, socket)| makers.judge(at, socket))
            .collect()
    }
}

/// Which cgroups are whose.
struct Makers<'a> {
    service: HashSet<u64>,
    generations: HashMap<u64, &'a str>,
}

impl<'a> Makers<'a> {
    fn of(context: &Context, generations: &'a [(String, Cgroup)]) -> Self {
        let ids = generations.iter();
        let ids =
            ids.flat_map(|(name, cgroup)| cgroup.ids().into_iter().map(|id| (id, name.as_str())));
        Self {
            service: context.cgroup.ids().into_iter().collect(),
            generations: ids.collect(),
        }
    }

    /// Nothing of a socket of the service's own that only has no slot: that is said elsewhere.
    fn judge(
        &self,
        (declared, how): (std::net::SocketAddr, Stray),
        socket: Waiting,
    ) -> Option<StraySocket> {
        let made_in = socket.cgroup;
        let generation = made_in.and_then(|id| self.generations.get(&id).copied());
        let is_own = generation.is_some() || made_in.is_some_and(|id| self.service.contains(&id));
        if is_own && how == Stray::Slotless {
            return None;
        }
        Some(StraySocket {
            how,
            listener: ForeignListener {
                declared,
                socket,
                pid: None,
            },
            generation: generation.map(str::to_owned),
            is_searched: generation.is_some(),
        })
    }
}

/// Finds who holds them. What another service of hotlb has declared is its own.
fn search(mut found: Vec<StraySocket>) -> Vec<StraySocket> {
    let holders = process::socket_holders(process::all_pids());
    for stray in &mut found {
        let held_by = holders.get(&stray.listener.socket.inode);
        stray.listener.pid = held_by.and_then(|all| Some(all.first()?.pid));
        stray.is_searched = true;
    }
    let of_services: Vec<_> = found
        .iter()
        .filter(|stray| stray.listener.service().is_some())
        .map(|stray| stray.listener.socket.address)
        .collect();
    found.retain(|stray| !of_services.contains(&stray.listener.socket.address));
    found
}
