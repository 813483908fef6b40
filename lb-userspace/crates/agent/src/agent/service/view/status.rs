//! The service as `status` shows it.

use std::{collections::HashMap, time::Instant};

use lb_common::{GenerationId, Workers};

use super::{
    super::{
        context::Context,
        ending::{Judged, signal_wait},
        flows,
    },
    snapshot::{GenerationView, Snapshot},
    steering, warnings,
};
use crate::{
    api::wire::{
        EndingStatus, GenerationStatus, GroupStatus, LatencyStatus, ListenerStatus, Quantiles,
        ServiceStatus, Tier, WorkerStatus,
    },
    clock::{self, millis},
    datapath::Latencies,
    rollout::GenerationState,
    sys::{
        listing::Listing,
        sock_diag::{Protocol, Waiting},
    },
};

/// Everything there is to say to who asked at this moment, but for what the disk has to say: of who is
/// `judged`, and what `waiting` says of a service that waits for a server to adopt.
pub(super) fn status(
    context: &Context,
    snapshot: &Snapshot,
    asked: Instant,
    judged: &HashMap<GenerationId, Judged>,
    waiting: String,
) -> ServiceStatus {
    let name = |id| snapshot.name_of(id);
    let generation = |seen: &GenerationView| GenerationStatus {
        ending: judged
            .get(&seen.id)
            .filter(|_| seen.state.is_live())
            .map(|judged| ending(context, seen, judged)),
        ..generation(context, seen, asked)
    };
    let previous = snapshot.previous;
    ServiceStatus {
        name: context.name().to_owned(),
        mode: context.config.hand_over,
        netns: context.config.netns.clone(),
        listen: context.config.listen.clone(),
        udp: flows::datagram_status(context),
        active: snapshot.word.active.map(name),
        fallback: snapshot.word.candidate.map(name),
        previous: previous.filter(|&id| snapshot.get(id).is_some()).map(name),
        previous_change: None,
        epoch: snapshot.word.epoch,
        parked: snapshot.parked,
        awaits_adopt: snapshot.awaits_adopt,
        warnings: warnings::all(context, snapshot, waiting),
        groups: groups(context, snapshot, asked),
        steering: steering::steering(context),
        polite: steering::polite(context),
        workers: workers(context),
        programs: Some(snapshot.programs.clone()),
        profiles: snapshot.profiles.clone(),
        promotes: snapshot.moves.promotes,
        rollbacks: snapshot.moves.rollbacks,
        failovers: snapshot.moves.failovers,
        rollout: snapshot.rollout.clone(),
        incident: snapshot.incident.clone(),
        generations: snapshot.generations.iter().map(generation).collect(),
    }
}

fn generation(context: &Context, seen: &GenerationView, asked: Instant) -> GenerationStatus {
    let live = seen.state.is_live();
    let flows = context.path.flows().map(|flows| flows.of(seen.id));
    let clients = || context.path.live(Some(seen.id)) + flows.unwrap_or_default();
    GenerationStatus {
        name: seen.name.clone(),
        id: seen.id.raw(),
        state: seen.state,
        pid: seen.processes().pid().filter(|_| live),
        command: seen.command.clone(),
        reason: seen.reason.clone(),
        origin: seen.origin,
        for_seconds: clock::since_boot().as_secs().saturating_sub(seen.since),
        connections: seen.connections,
        flows,
        latency: seen.latencies.as_ref().map(in_short).unwrap_or_default(),
        tier: tier(seen),
        frozen: live && seen.cgroup.is_frozen(),
        drain: seen.drain.as_ref().map(|drain| drain.status(clients())),
        ending: None,
        listeners: sockets(context, seen, asked)
            .iter()
            .map(|waiting| listener(context, seen, waiting))
            .collect(),
        output: context.places.output(context.name(), &seen.name),
    }
}

/// What waits for clients, of one that lives.
fn sockets(context: &Context, seen: &GenerationView, asked: Instant) -> Vec<Waiting> {
    let mut found = Vec::new();
    if seen.state.is_live() {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            if let Ok(listing) = Listing::since(&context.netns, protocol, asked) {
                found.extend(listing.below(&seen.cgroup).into_iter().cloned());
            }
        }
    }
    found
}

fn listener(context: &Context, seen: &GenerationView, waiting: &Waiting) -> ListenerStatus {
    let slot = seen.steered.get(&waiting.cookie).copied();
    let hangs_for = seen.progress.hangs_for(waiting.cookie, clock::since_boot());
    ListenerStatus {
        protocol: match waiting.protocol {
            Protocol::Tcp => "tcp".to_owned(),
            Protocol::Udp => "udp".to_owned(),
        },
        address: waiting.address,
        v6only: waiting.address.is_ipv6().then_some(waiting.v6only),
        uid: waiting.uid,
        queue: waiting.queue,
        backlog: waiting.backlog,
        dropped: waiting.dropped,
        steered: slot.is_some() || seen.datagrams.contains_key(&waiting.cookie),
        open: slot.and_then(|slot| open_at(context, slot)),
        hangs_for_ms: hangs_for.map(millis),
    }
}

/// Open connections of a listener with this slot, where they are counted.
fn open_at(context: &Context, slot: u32) -> Option<u64> {
    (context.path.chosen_by() == Workers::Least).then(|| context.path.load(slot))
}

fn workers(context: &Context) -> WorkerStatus {
    WorkerStatus {
        configured: context.config.workers,
        now: context.path.chosen_by().name().to_owned(),
    }
}

fn in_short(latencies: &Latencies) -> LatencyStatus {
    LatencyStatus {
        queue_wait: Quantiles::of(&latencies.queue_wait),
        service_time: Quantiles::of(&latencies.service_time),
        lifetime: Quantiles::of(&latencies.lifetime),
    }
}

/// How a rollback to the generation would go.
fn tier(seen: &GenerationView) -> Option<Tier> {
    match seen.state {
        GenerationState::Standby if seen.cgroup.is_frozen() => Some(Tier::Hot),
        GenerationState::Standby | GenerationState::Draining | GenerationState::Ready => {
            Some(Tier::Warm)
        }
        GenerationState::Stopped | GenerationState::Stopping if seen.is_started_elsewhere => None,
        GenerationState::Stopped | GenerationState::Stopping => Some(Tier::Cold),
        GenerationState::Starting | GenerationState::Active | GenerationState::Failed => None,
    }
}

/// How it is told to end.
fn ending(context: &Context, seen: &GenerationView, judged: &Judged) -> EndingStatus {
    let after = signal_wait(&context.config.drain, &judged.recipe);
    let told = seen
        .told
        .map(|at| millis(clock::since_boot().saturating_sub(at)));
    let waits = seen.state == GenerationState::Draining;
    let passed = seen.drain.as_ref().filter(|_| waits);
    let passed = passed.map(|drain| drain.began().elapsed());
    EndingStatus {
        signal: judged.recipe.signal.to_string(),
        pids: judged.pids(),
        program: judged.program(),
        effect: judged.recipe.effect.name().to_owned(),
        why: judged.recipe.why(&judged.program()),
        after_ms: after.map(millis),
        in_ms: after
            .zip(passed)
            .map(|(after, passed)| millis(after.saturating_sub(passed))),
        signalled_ms_ago: told,
    }
}

fn groups(context: &Context, snapshot: &Snapshot, asked: Instant) -> Vec<GroupStatus> {
    let listing = Listing::since(&context.netns, Protocol::Tcp, asked).ok();
    let queue = |cookie| {
        let parked = listing.as_ref()?.get(cookie)?;
        Some(parked.queue)
    };
    snapshot
        .parks
        .iter()
        .map(|parked| GroupStatus {
            address: parked.group_key.address,
            v6only: parked
                .group_key
                .address
                .is_ipv6()
                .then_some(parked.group_key.v6only),
            uid: parked.group_key.uid,
            parking_queue: queue(parked.cookie).unwrap_or_default(),
        })
        .collect()
}
