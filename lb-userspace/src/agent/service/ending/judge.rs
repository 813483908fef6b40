//! Who of a generation is told, by which signal, and what is known of what that does.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use lb_common::GenerationId;
use nix::sys::signal::Signal;

use super::super::{Service, books::Generation};
use crate::{
    api::wire::EndingStatus,
    clock::{self, millis},
    config::Leftovers,
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
    pub(super) fn program(&self) -> String {
        self.judged()
            .map_or_else(|| "it".to_owned(), |server| server.program.name.clone())
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

/// Who served when somebody last looked.
#[derive(Debug, Default)]
pub(in crate::agent::service) struct Endings(Mutex<HashMap<GenerationId, (Instant, Vec<Server>)>>);

impl Endings {
    fn recent(&self, id: GenerationId) -> Option<Vec<Server>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, servers) = known.get(&id)?;
        let fresh = at.elapsed() < LATELY && servers.iter().all(Server::runs);
        fresh.then(|| servers.clone())
    }

    fn note(&self, id: GenerationId, servers: &[Server]) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (at, _)| at.elapsed() < LATELY);
        known.insert(id, (clock::now(), servers.to_vec()));
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

impl Service {
    /// Where the generation serves.
    pub(in crate::agent::service) fn place(&self, generation: &Generation) -> Place {
        let udp = self.config.datagrams.iter().flat_map(|udp| &udp.listen);
        Place {
            cgroup: generation.cgroup.clone(),
            main: generation.main,
            tcp: self.ports(),
            udp: udp.map(std::net::SocketAddr::port).collect(),
        }
    }

    /// How the generation is told to end, by who serves now.
    pub(in crate::agent::service) async fn judge_ending(&self, id: GenerationId) -> Option<Judged> {
        self.judge_since(id, clock::now()).await
    }

    /// By a list of sockets made at `moment` or later: several services may share it.
    async fn judge_since(&self, id: GenerationId, moment: Instant) -> Option<Judged> {
        let known = self.known(id).await?;
        let judging = tokio::task::spawn_blocking(move || {
            let servers = known.place.servers(moment);
            (servers.clone(), Judged::new(servers, &known))
        });
        match judging.await {
            Ok((servers, judged)) => {
                self.endings.note(id, &servers);
                Some(judged)
            }
            Err(error) => {
                tracing::error!(
                    service = self.name(),
                    %error,
                    "failed to find the processes that serve"
                );
                let known = self.known(id).await?;
                Some(Judged::new(Vec::new(), &known))
            }
        }
    }

    /// The same of all that live, by who served a while ago at most.
    pub(in crate::agent::service) async fn judge_all(
        &self,
        asked: Instant,
    ) -> HashMap<GenerationId, Judged> {
        let ids: Vec<GenerationId> = {
            let books = self.books.lock().await;
            let living = books.generations.iter().filter(|g| g.state.is_live());
            let living = living.filter(|g| g.state != GenerationState::Starting);
            living.map(|g| g.id).collect()
        };
        let mut all = HashMap::new();
        for id in ids {
            let judged = match self.endings.recent(id) {
                Some(servers) => {
                    let known = self.known(id).await;
                    known.map(|known| Judged::new(servers, &known))
                }
                None => self.judge_since(id, asked).await,
            };
            all.extend(judged.map(|judged| (id, judged)));
        }
        all
    }

    /// What each of these processes of the generation is told by.
    pub(super) async fn recipes(
        &self,
        id: GenerationId,
        servers: Vec<Server>,
    ) -> Vec<(Server, Recipe)> {
        match self.known(id).await {
            Some(known) => Judged::new(servers, &known).told,
            None => Vec::new(),
        }
    }

    async fn known(&self, id: GenerationId) -> Option<Known> {
        let books = self.books.lock().await;
        let generation = books.get(id)?;
        let unit = generation.outside.unit_signal.as_deref();
        Some(Known {
            place: self.place(generation),
            configured: self.config.drain.signal,
            unit: unit.and_then(|name| name.parse().ok()),
            // Clients wait until it has ended.
            alone: self.path.word().active.is_none()
                && generation.state != GenerationState::Ready
                && !books.is_ending(),
            habits: books.habits.clone(),
        })
    }

    /// The signal that a process understands, whether or not it is a generation's.
    pub(in crate::agent::service) fn signal_of(&self, pid: u32) -> Signal {
        let server = Server::of(pid);
        let facts = Facts {
            program: server.as_ref().map(|server| &server.program),
            configured: self.config.drain.signal,
            ..Facts::default()
        };
        recipe::recipe(facts, |_| true, |_| None).signal
    }

    /// How long after the beginning of the drain the signal is sent although connections are left;
    /// `None`: as long as there are any, never.
    pub(in crate::agent::service) fn signal_wait(&self, recipe: &Recipe) -> Option<Duration> {
        let policy = &self.config.drain;
        let wait = recipe.wait(policy.signal_after, policy.signal_after());
        match (wait, policy.leftovers) {
            (Some(wait), Leftovers::Keep) => Some(wait),
            (Some(wait), _) => Some(wait.min(policy.deadline)),
            (None, Leftovers::Keep) => None,
            (None, _) => Some(policy.deadline),
        }
    }

    /// As `status` shows it.
    pub(in crate::agent::service) fn ending_status(
        &self,
        generation: &Generation,
        judged: &Judged,
    ) -> EndingStatus {
        let after = self.signal_wait(&judged.recipe);
        let told = generation.told.map(|at| {
            let ago = clock::since_boot().saturating_sub(Duration::from_secs(at));
            millis(ago)
        });
        let waits = generation.state == GenerationState::Draining;
        let passed = generation.drain.as_ref().filter(|_| waits);
        let passed = passed.map(|drain| drain.began.elapsed());
        EndingStatus {
            signal: judged.recipe.signal.to_string(),
            pids: judged.told.iter().map(|(server, _)| server.pid).collect(),
            program: judged.program(),
            effect: judged.recipe.effect.name().to_owned(),
            why: judged.recipe.why(&judged.program()),
            after_ms: after.map(millis),
            in_ms: after
                .zip(passed)
                .map(|(after, passed)| millis(after.saturating_sub(passed))),
            told_ms_ago: told,
        }
    }
}
