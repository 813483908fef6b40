//! The service as the metrics show it.

use std::{thread, time::Duration};

use super::{
    Service,
    books::{Books, Generation},
};
use crate::{
    agent::observed::{ObservedGeneration, ObservedService},
    clock,
    datapath::{ConnectionCounts, Latencies},
    generation::usage::{Reader, Usage},
    sys::cgroup::Cgroup,
};

/// From so many generations on a thread more is worth its start.
const MANY: usize = 8;

impl Service {
    /// Everything there is to measure now. Generations that ended longer ago than `expire` are
    /// in the totals only.
    pub(in crate::agent) async fn observe(&self, expire: Duration) -> ObservedService {
        let (mut observed, cgroups) = {
            let books = self.books.lock().await;
            let all = books.generations.iter().map(|g| self.counts(g));
            let counts: Vec<ConnectionCounts> = all.collect();
            let mut latency = self.past_latencies(&books);
            let mut generations = Vec::new();
            let mut cgroups = Vec::new();
            for (generation, counts) in books.generations.iter().zip(&counts) {
                let measured = self.latencies(generation);
                if let Some(measured) = &measured {
                    latency.add(measured);
                }
                if is_shown(generation, expire) {
                    let (mut observed, cgroup) = observe_generation(generation, *counts, measured);
                    observed.hangs_for = self.hangs_for(generation);
                    observed.flows = self.path.flows().map(|flows| flows.of(generation.id));
                    generations.push(observed);
                    cgroups.push(cgroup);
                }
            }
            let observed = ObservedService {
                latency,
                ..self.observe_books(&books, generations, &counts)
            };
            (observed, cgroups)
        };
        // Hundreds of files, so not in a thread that has other work, and without the books.
        let read = tokio::task::spawn_blocking(move || read_usage(&cgroups));
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
        counts: &[ConnectionCounts],
    ) -> ObservedService {
        let moves = books.steering.moves();
        ObservedService {
            name: self.config.name.clone(),
            generations,
            totals: self.totals(books, counts),
            latency: Latencies::default(),
            parked: self.path.live(None),
            steering: self.steering_status(),
            udp: self.datagram_status(),
            polite: self.polite_status(),
            profiles: self.kept_profiles_status(),
            promotes: moves.promotes,
            rollbacks: moves.rollbacks,
            failovers: moves.failovers,
            // They are counted: who holds its ports does not matter.
            warnings: self.warnings(books, String::new()).len() as u64,
            programs: self.program_status(),
            usurped: books.usurped.groups.len() as u64,
            phase: books.rollout.as_ref().map(|rollout| rollout.phase),
            tally: books.tally.clone(),
        }
    }

    /// How long its clients waited, unless its seat is another's by now.
    pub(super) fn latencies(&self, generation: &Generation) -> Option<Latencies> {
        (!generation.unseated).then(|| self.path.latencies(Some(generation.id)))
    }
}

fn observe_generation(
    generation: &Generation,
    connections: ConnectionCounts,
    latency: Option<Latencies>,
) -> (ObservedGeneration, Option<Cgroup>) {
    let drain = generation.drain.as_ref();
    let observed = ObservedGeneration {
        name: generation.name.clone(),
        state: generation.state,
        hangs_for: None,
        hung_listeners: generation.progress.hung().0 as u64,
        connections,
        slowest: generation.slowest(latency.as_ref()),
        latency,
        flows: None,
        drain: drain.map(|drain| drain.status(connections.live)),
        usage: None,
    };
    let lives = generation.state.is_live();
    (observed, lives.then(|| generation.cgroup.clone()))
}

fn is_shown(generation: &Generation, expire: Duration) -> bool {
    let ended_for = clock::since_boot().saturating_sub(Duration::from_secs(generation.since));
    generation.state.is_live() || ended_for <= expire
}

/// A dozen files each: with many generations, two threads read them.
fn read_usage(cgroups: &[Option<Cgroup>]) -> Vec<Option<Usage>> {
    let reader = Reader::now();
    let read = |cgroups: &[Option<Cgroup>]| -> Vec<_> {
        let read = |cgroup: &Option<Cgroup>| cgroup.as_ref().map(|cgroup| reader.read(cgroup));
        cgroups.iter().map(read).collect()
    };
    if cgroups.len() < MANY {
        return read(cgroups);
    }
    let (here, there) = cgroups.split_at(cgroups.len() / 2);
    thread::scope(|scope| {
        let there = scope.spawn(|| read(there));
        let mut all = read(here);
        // It fails only if the thread panicked.
        all.extend(there.join().unwrap_or_default());
        all
    })
}
