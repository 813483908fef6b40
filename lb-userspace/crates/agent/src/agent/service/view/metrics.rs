//! The service as the metrics show it.

use std::{thread, time::Duration};

use super::{
    super::{context::Context, flows},
    accounting, hung,
    snapshot::{GenerationView, Snapshot},
    steering, warnings,
};
use crate::{
    clock,
    generation::usage::{Reader, Usage},
    observed::{ObservedGeneration, ObservedService},
    sys::cgroup::Cgroup,
};

/// From so many generations on a thread more is worth its start.
const MANY: usize = 8;

/// Everything there is to measure. Generations that ended longer ago than `expire` are in the totals
/// only.
pub(super) fn observe(context: &Context, snapshot: Snapshot, expire: Duration) -> ObservedService {
    let totals = accounting::totals(&snapshot);
    let latency = accounting::all_latencies(&snapshot);
    // They are counted: who holds its ports does not matter.
    let warnings = warnings::all(context, &snapshot, String::new()).len() as u64;
    let shown = snapshot.generations.into_iter();
    let shown: Vec<_> = shown.filter(|seen| is_shown(seen, expire)).collect();
    let cgroups: Vec<Option<Cgroup>> = shown
        .iter()
        .map(|seen| seen.state.is_live().then(|| seen.cgroup.clone()))
        .collect();
    let usage = read_usage(&cgroups);
    let generations = shown
        .into_iter()
        .zip(usage)
        .map(|(seen, usage)| observe_generation(context, seen, usage))
        .collect();
    ObservedService {
        name: context.name().to_owned(),
        generations,
        totals,
        latency,
        parked: snapshot.parked,
        steering: steering::steering(context),
        udp: flows::datagram_status(context),
        polite: steering::polite(context),
        profiles: snapshot.profiles,
        promotes: snapshot.moves.promotes,
        rollbacks: snapshot.moves.rollbacks,
        failovers: snapshot.moves.failovers,
        warnings,
        programs: snapshot.programs,
        foreign_programs: snapshot.foreign_programs.count(),
        stray_sockets: snapshot.strays.count(),
        phase: snapshot.rollout.map(|rollout| rollout.phase),
        rollout_stats: snapshot.rollout_stats,
    }
}

fn observe_generation(
    context: &Context,
    seen: GenerationView,
    usage: Option<Usage>,
) -> ObservedGeneration {
    ObservedGeneration {
        hangs_for: hung::hangs_for(context, &seen),
        flows: context.path.flows().map(|flows| flows.of(seen.id)),
        drain: seen
            .drain
            .as_ref()
            .map(|drain| drain.status(seen.connections.live)),
        name: seen.name,
        state: seen.state,
        hung_listeners: seen.progress.hung().0 as u64,
        connections: seen.connections,
        slowest: seen.slowest,
        latency: seen.latencies,
        usage,
    }
}

fn is_shown(seen: &GenerationView, expire: Duration) -> bool {
    let ended_for = clock::since_boot().saturating_sub(Duration::from_secs(seen.since));
    seen.state.is_live() || ended_for <= expire
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
    let there_are = there.len();
    thread::scope(|scope| {
        let there = scope.spawn(|| read(there));
        let mut all = read(here);
        // It fails only if the thread panicked: a generation without its usage is still one.
        let there = there.join().unwrap_or_else(|_panic| vec![None; there_are]);
        all.extend(there);
        all
    })
}
