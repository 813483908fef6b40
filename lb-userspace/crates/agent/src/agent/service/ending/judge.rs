//! Who of a generation is told, by which signal, and what is known of what that does.

use std::{
    collections::HashMap,
    sync::{self, Arc, PoisonError},
    time::{Duration, Instant},
};

use lb_common::GenerationId;
use nix::sys::signal::Signal;

use super::super::{
    Context,
    registry::{Generation, Registry},
    shared::SharedState,
};
use crate::{
    clock,
    config::{DrainPolicy, Leftovers},
    generation::serving::{Place, Server},
    rollout::{
        GenerationState,
        habit::Habits,
        recipe::{self, Effect, Facts, Recipe},
    },
    sys::process,
};

/// How long it is taken for true who serves, for who only asks.
const LATELY: Duration = Duration::from_secs(10);

/// How a generation is told to end.
#[derive(Clone, Debug)]
pub(in crate::agent::service) struct Judged {
    /// Who is told, each by what it understands. Empty: nobody is known.
    pub(super) told: Vec<(Server, Recipe)>,
    /// The one of them whose connections have most to fear.
    pub(in crate::agent::service) recipe: Recipe,
}

impl Judged {
    /// What runs, as messages name it.
    pub(in crate::agent::service) fn program(&self) -> String {
        self.judged()
            .map_or_else(|| "it".to_owned(), |server| server.program.name.clone())
    }

    /// The processes that are told.
    pub(in crate::agent::service) fn pids(&self) -> Vec<u32> {
        self.told.iter().map(|(server, _)| server.pid).collect()
    }

    /// The processes that are told, and when they started.
    pub(super) fn whom(&self) -> Vec<(u32, u64)> {
        let told = self.told.iter();
        told.map(|(server, _)| (server.pid, server.started))
            .collect()
    }

    /// The one that was judged.
    pub(super) fn judged(&self) -> Option<&Server> {
        let mut told = self.told.iter();
        told.find(|(_, recipe)| *recipe == self.recipe)
            .map(|(server, _)| server)
    }

    /// "SIGQUIT (nginx finishes what it has on it)".
    pub(in crate::agent::service) fn words(&self) -> String {
        format!(
            "{} ({})",
            self.recipe.signal,
            self.recipe.why(&self.program())
        )
    }

    fn new(servers: Vec<Server>, known: &Known) -> Self {
        let nobody = recipe::recipe(known.facts(None), |_| false, |_| None);
        let told: Vec<(Server, Recipe)> = servers
            .into_iter()
            .map(|server| {
                let recipe = known.recipe(&server);
                (server, recipe)
            })
            .collect();
        let careful = |recipe: &Recipe| match recipe.effect {
            Effect::Finishes => 0,
            Effect::Unknown => 1,
            Effect::Cuts => 2,
        };
        let worst = told.iter().map(|&(_, recipe)| recipe).max_by_key(careful);
        Self {
            told,
            recipe: worst.unwrap_or(nobody),
        }
    }
}

/// Who served when somebody last looked. Clones share that.
#[derive(Clone, Debug, Default)]
pub(in crate::agent::service) struct Endings(Arc<sync::Mutex<HashMap<GenerationId, Looked>>>);

/// When it was looked, and who served.
type Looked = (Instant, Vec<Server>);

impl Endings {
    /// How the generation is told to end, by who serves now.
    pub(in crate::agent::service) async fn judge(
        &self,
        context: &Context,
        state: &SharedState,
        id: GenerationId,
    ) -> Option<Judged> {
        let known = {
            let registry = state.lock().await;
            vec![(id, Known::of(context, &registry, registry.get(id)?))]
        };
        self.judge_these(context, known, clock::now(), Duration::ZERO)
            .await
            .remove(&id)
    }

    /// The same of all that live, by who served a while ago at most, or else by a list of sockets made at
    /// `moment` or later: several services may share it.
    pub(in crate::agent::service) async fn judge_all(
        &self,
        context: &Context,
        state: &SharedState,
        moment: Instant,
    ) -> HashMap<GenerationId, Judged> {
        let known = state
            .look(|registry| {
                let living = registry.living();
                let living = living.filter(|g| g.state() != GenerationState::Starting);
                let known = living.map(|g| (g.id(), Known::of(context, registry, g)));
                known.collect()
            })
            .await;
        self.judge_these(context, known, moment, LATELY).await
    }

    /// Who served `lately`, at most so long ago, is taken to serve.
    async fn judge_these(
        &self,
        context: &Context,
        known: Vec<(GenerationId, Known)>,
        moment: Instant,
        lately: Duration,
    ) -> HashMap<GenerationId, Judged> {
        let (endings, known) = (self.clone(), Arc::new(known));
        let of = Arc::clone(&known);
        let judging = tokio::task::spawn_blocking(move || {
            let judge = |(id, known): &(GenerationId, Known)| {
                let servers = endings.recent(*id, lately).unwrap_or_else(|| {
                    let servers = known.place.servers(moment);
                    endings.note(*id, &servers);
                    servers
                });
                (*id, Judged::new(servers, known))
            };
            of.iter().map(judge).collect()
        });
        judging.await.unwrap_or_else(|error| {
            tracing::error!(
                service = context.name(),
                %error,
                "failed to find the processes that serve"
            );
            let nobody =
                |(id, known): &(GenerationId, Known)| (*id, Judged::new(Vec::new(), known));
            known.iter().map(nobody).collect()
        })
    }

    fn recent(&self, id: GenerationId, lately: Duration) -> Option<Vec<Server>> {
        let (at, servers) = self.known().get(&id)?.clone();
        let fresh = at.elapsed() < lately && servers.iter().all(Server::runs);
        fresh.then_some(servers)
    }

    fn note(&self, id: GenerationId, servers: &[Server]) {
        let mut known = self.known();
        known.retain(|_, (at, _)| at.elapsed() < LATELY);
        known.insert(id, (clock::now(), servers.to_vec()));
    }

    fn known(&self) -> sync::MutexGuard<'_, HashMap<GenerationId, Looked>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known beside the processes.
struct Known {
    place: Place,
    configured: Option<Signal>,
    unit: Option<Signal>,
    alone: bool,
    habits: Habits,
}

impl Known {
    fn of(context: &Context, registry: &Registry, generation: &Generation) -> Self {
        let unit = generation.provenance().unit_signal.as_deref();
        Self {
            place: place(context, generation),
            configured: context.config.drain.signal,
            unit: unit.and_then(|name| name.parse().ok()),
            // Clients wait until it has ended.
            alone: context.path.word().active.is_none()
                && generation.state() != GenerationState::Ready
                && !registry.is_ending(),
            habits: registry.sums().habits().clone(),
        }
    }

    fn facts<'a>(&self, server: Option<&'a Server>) -> Facts<'a> {
        Facts {
            program: server.map(|server| &server.program),
            configured: self.configured,
            unit: self.unit,
            alone: self.alone,
        }
    }

    fn recipe(&self, server: &Server) -> Recipe {
        recipe::recipe(
            self.facts(Some(server)),
            |signal| process::catches(server.pid, signal),
            |signal| {
                let key = server.program.key();
                self.habits.of(&key, signal.as_str()).cloned()
            },
        )
    }
}

/// Where the generation serves.
pub(in crate::agent::service) fn place(context: &Context, generation: &Generation) -> Place {
    let udp = context.config.datagrams.iter().flat_map(|udp| &udp.listen);
    Place {
        cgroup: generation.cgroup().clone(),
        main: generation.main(),
        tcp: context.ports(),
        udp: udp.map(std::net::SocketAddr::port).collect(),
    }
}

/// What each of these processes of the generation is told by.
pub(super) async fn recipes(
    context: &Context,
    state: &SharedState,
    id: GenerationId,
    servers: Vec<Server>,
) -> Vec<(Server, Recipe)> {
    let known = state
        .look(|registry| {
            let generation = registry.get(id);
            generation.map(|generation| Known::of(context, registry, generation))
        })
        .await;
    known.map_or_else(Vec::new, |known| Judged::new(servers, &known).told)
}

/// The signal that a process understands, whether or not it is a generation's.
pub(in crate::agent::service) fn signal_of(context: &Context, pid: u32) -> Signal {
    let server = Server::of(pid);
    let facts = Facts {
        program: server.as_ref().map(|server| &server.program),
        configured: context.config.drain.signal,
        ..Facts::default()
    };
    recipe::recipe(facts, |_| true, |_| None).signal
}

/// How long after the beginning of the drain the signal is sent although connections are left;
/// `None`: as long as there are any, never.
pub(in crate::agent::service) fn signal_wait(
    policy: &DrainPolicy,
    recipe: &Recipe,
) -> Option<Duration> {
    let wait = recipe.wait(policy.signal_after, policy.signal_after());
    match (wait, policy.leftovers) {
        (Some(wait), Leftovers::Keep) => Some(wait),
        (Some(wait), _) => Some(wait.min(policy.deadline)),
        (None, Leftovers::Keep) => None,
        (None, _) => Some(policy.deadline),
    }
}
