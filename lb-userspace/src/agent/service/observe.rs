//! The service as the metrics show it.

use std::time::Duration;

use super::{
    Service,
    books::{Books, Generation},
};
use crate::{
    agent::observed::{ObservedGeneration, ObservedService},
    clock,
    generation::usage::{Reader, Usage},
    sys::cgroup::Cgroup,
};

impl Service {
    /// Everything there is to measure now. Generations that ended longer ago than `expire` are
    /// in the totals only.
    pub(in crate::agent) async fn observe(&self, expire: Duration) -> ObservedService {
        let (mut observed, cgroups) = {
            let books = self.books.lock().await;
            let shown = books.generations.iter().filter(|g| is_shown(g, expire));
            let (generations, cgroups) = shown.map(|g| self.observe_generation(g)).unzip();
            (self.observe_books(&books, generations), cgroups)
        };
        // Hundreds of files, so not in a thread that has other work, and without the books.
        let read = tokio::task::spawn_blocking(move || read_usage(cgroups));
        let usage = read.await.unwrap_or_default();
        for (generation, usage) in observed.generations.iter_mut().zip(usage) {
            generation.usage = usage;
        }
        observed
    }

    fn observe_books(
        &self,
        books: &Books,
        generations: Vec<ObservedGeneration>,
    ) -> ObservedService {
        ObservedService {
            name: self.config.name.clone(),
            generations,
            totals: self.totals(books),
            parked: self.path.live(None),
            steering: self.steering_status(),
            polite: self.polite_status(),
            promotes: books.promotes,
            rollbacks: books.rollbacks,
            failovers: books.failovers,
            warnings: self.warnings(books).len() as u64,
            phase: books.rollout.as_ref().map(|rollout| rollout.phase),
            tally: books.tally.clone(),
        }
    }

    fn observe_generation(&self, generation: &Generation) -> (ObservedGeneration, Option<Cgroup>) {
        let drain = generation.drain.as_ref();
        let observed = ObservedGeneration {
            name: generation.name.clone(),
            state: generation.state,
            connections: self.counts(generation),
            drain: drain.map(|drain| drain.status(self.path.live(Some(generation.id)))),
            usage: None,
        };
        let lives = generation.state.is_live();
        (observed, lives.then(|| generation.cgroup.clone()))
    }
}

fn is_shown(generation: &Generation, expire: Duration) -> bool {
    let ended_for = clock::since_boot().saturating_sub(Duration::from_secs(generation.since));
    generation.state.is_live() || ended_for <= expire
}

fn read_usage(cgroups: Vec<Option<Cgroup>>) -> Vec<Option<Usage>> {
    let reader = Reader::now();
    let read = |cgroup: Option<Cgroup>| cgroup.map(|cgroup| reader.read(&cgroup));
    cgroups.into_iter().map(read).collect()
}
