//! The service as `status` and the metrics show it.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use lb_common::Exit;

use super::{
    Service,
    books::{Books, Generation},
};
use crate::{
    api::wire::{
        GenerationStatus, GroupStatus, LatencyStatus, ListenerStatus, PoliteStatus, PoliteWay,
        Quantiles, ServiceStatus, SteeringStatus, Tier,
    },
    clock,
    config::PoliteMode,
    datapath::{ConnectionCounts, Latencies, Way},
    rollout::GenerationState,
    sys::{
        listing::Listing,
        netns::Netns,
        sock_diag::{Protocol, Waiting},
    },
};

impl Service {
    /// Everything there is to say to who asked at this moment.
    pub async fn status(self: &Arc<Self>, asked: Instant) -> ServiceStatus {
        let judged = self.judge_all(asked).await;
        let waiting = self.waiting_warning().await;
        let books = self.books.lock().await;
        let word = self.path.word();
        let name = |id| books.name_of(id);
        let aim = Self::aim(&books);
        let moves = books.steering.moves();
        let mut status = ServiceStatus {
            name: self.config.name.clone(),
            mode: self.config.hand_over,
            netns: self.config.netns.clone(),
            listen: self.config.listen.clone(),
            udp: self.datagram_status(),
            active: word.active.map(name),
            candidate: word.candidate.map(name),
            previous: books
                .steering
                .previous()
                .filter(|&id| books.get(id).is_some())
                .map(name),
            previous_change: None,
            epoch: word.epoch,
            parked: self.path.live(None),
            awaits_adopt: books.awaits_adopt,
            warnings: self.warnings(&books, waiting),
            groups: group_status(&books, &self.netns, asked),
            steering: self.steering_status(),
            polite: self.polite_status(),
            workers: self.worker_status(),
            programs: Some(self.program_status()),
            profiles: self.kept_profiles_status(),
            promotes: moves.promotes,
            rollbacks: moves.rollbacks,
            failovers: moves.failovers,
            rollout: books.rollout.as_ref().map(|rollout| rollout.status(&name)),
            incident: self.incidents.fresh(),
            generations: books
                .generations
                .iter()
                .map(|generation| GenerationStatus {
                    ending: judged
                        .get(&generation.id)
                        .filter(|_| generation.state.is_live())
                        .map(|judged| self.ending_status(generation, judged)),
                    ..self.generation_status(generation, asked)
                })
                .collect(),
        };
        drop(books);
        if let Some(aim) = aim {
            status.previous_change = aim.change().await;
        }
        status
    }

    /// What is not as it should be. `waiting` is what there is to say of one that waits for a server to
    /// adopt.
    pub(super) fn warnings(&self, books: &Books, waiting: String) -> Vec<String> {
        let mut warnings = Vec::new();
        let parked = self.path.live(None);
        if books.awaits_adopt {
            warnings.push(waiting);
        } else if self.path.word().active.is_none() {
            warnings.push(if self.config.listen.is_empty() {
                "no generation is active: datagrams are refused; deploy and promote one".to_owned()
            } else {
                format!(
                    "no generation is active: clients wait ({parked} now); deploy and promote one"
                )
            });
        } else if parked > 0 {
            warnings.push(self.parked_warning(parked));
        }
        for generation in &books.generations {
            if generation.unsteered > 0 {
                warnings.push(format!(
                    "{} listeners of {} have no slot and get no connection",
                    generation.unsteered, generation.name
                ));
            }
            if let (hung @ 1.., queue) = generation.progress.hung() {
                warnings.push(format!(
                    "{hung} of {1}'s {0} listeners have stopped accepting: {queue} clients wait \
                     there, and other listeners get the new connections until they accept again; \
                     if a worker is stuck, end that process",
                    hung + generation.steered.len(),
                    generation.name
                ));
            }
            if generation.unseen_ends > 0 {
                warnings.push(format!(
                    "the ends of {} connections of {} were not counted: another sock_ops program, \
                     attached to a parent cgroup, takes the callback away; it must add to \
                     bpf_sock_ops_cb_flags instead of setting it",
                    generation.unseen_ends, generation.name
                ));
            }
            if let Some(why) = &generation.not_frozen {
                warnings.push(format!(
                    "{} {why}; it stays on standby, unfrozen",
                    generation.name
                ));
            }
            if generation.lost_its_first() {
                warnings.push(format!(
                    "the first process of {} has ended, but others still serve: hotlb cannot end \
                     them, because its supervisor may start another server there; promote another \
                     generation, or start this one again",
                    generation.name
                ));
            }
            if generation.state == GenerationState::Failed && generation.was_ready {
                let reason = generation.reason.as_deref().unwrap_or("it ended");
                warnings.push(format!("{} failed: {reason}", generation.name));
            }
        }
        self.hung_warnings(books, &mut warnings);
        self.cut_warnings(books, &mut warnings);
        self.flow_warnings(&mut warnings);
        self.program_warning(&mut warnings);
        books.usurped.warnings(&mut warnings);
        let unselected = self.path.steering_counts().exits(Exit::Unselected, false);
        if unselected > 0 {
            warnings.push(format!(
                "{unselected} connections were placed by the kernel's own hash: steering was not \
                 in effect"
            ));
        }
        if let Some(reason) = &self.unmeasured {
            warnings.push(format!("latency is not measured: {reason}"));
        }
        if let Some(reason) = &self.uncounted {
            warnings.push(format!("refused clients are not counted: {reason}"));
        }
        if let Some(reason) = self.kept_profiles_status().and_then(|kept| kept.stopped) {
            warnings.push(format!("profiles are not kept: {reason}"));
        }
        if let Some(reason) = self.impolite() {
            warnings.push(format!(
                "clients are not asked to leave a draining generation: {reason}"
            ));
        }
        if let Some(error) = &books.keeper_error {
            warnings.push(format!(
                "no keeper holds the parking listeners: {error}; clients are refused while no \
                 generation listens"
            ));
        }
        if let Some(error) = self.ledger.trouble() {
            warnings.push(ledger_warning(&error));
        }
        warnings
    }

    pub(super) fn steering_status(&self) -> SteeringStatus {
        let counts = self.path.steering_counts();
        let exits = |migrating| -> BTreeMap<String, u64> {
            Exit::ALL
                .iter()
                .map(|&exit| (exit.name().to_owned(), counts.exits(exit, migrating)))
                .collect()
        };
        SteeringStatus {
            calls: counts.calls(),
            exits: exits(false),
            migrated: exits(true),
        }
    }

    /// Why nobody is asked to leave, though the operator wants it.
    fn impolite(&self) -> Option<String> {
        if self.config.drain.polite == PoliteMode::Off {
            return None;
        }
        match self.path.polite() {
            Ok(polite) => polite.refusal(),
            Err(impolite) => Some(impolite.reason().to_owned()),
        }
    }

    pub(super) fn polite_status(&self) -> PoliteStatus {
        let why_not = self.impolite();
        let Ok(polite) = self.path.polite() else {
            return PoliteStatus {
                why_not,
                ..PoliteStatus::default()
            };
        };
        let asks = self.config.drain.polite != PoliteMode::Off && why_not.is_none();
        PoliteStatus {
            way: asks.then(|| match polite.way() {
                Way::Messages => PoliteWay::Messages,
                Way::Packets => PoliteWay::Packets,
            }),
            why_not,
            leaving: polite.leaving(|| self.all_connections()),
            responses: polite
                .counts()
                .by_name()
                .iter()
                .map(|(name, &count)| ((*name).to_owned(), count))
                .collect(),
        }
    }

    /// All connections the generation has had.
    pub(super) fn counts(&self, generation: &Generation) -> ConnectionCounts {
        if generation.unseated {
            return generation.counted;
        }
        self.path
            .connections(Some(generation.id))
            .plus(generation.counted)
    }

    fn generation_status(&self, generation: &Generation, asked: Instant) -> GenerationStatus {
        let live = generation.state.is_live();
        let mut found = Vec::new();
        if live {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                if let Ok(listing) = Listing::since(&self.netns, protocol, asked) {
                    found.extend(listing.below(&generation.cgroup).into_iter().cloned());
                }
            }
        }
        GenerationStatus {
            name: generation.name.clone(),
            id: generation.id.raw(),
            state: generation.state,
            pid: generation.pid().filter(|_| live),
            command: generation.command.clone(),
            reason: generation.reason.clone(),
            origin: generation.outside.origin,
            for_seconds: clock::since_boot()
                .as_secs()
                .saturating_sub(generation.since),
            connections: self.counts(generation),
            flows: self.path.flows().map(|flows| flows.of(generation.id)),
            latency: self
                .latencies(generation)
                .map(|latencies| in_short(&latencies))
                .unwrap_or_default(),
            tier: tier(generation),
            frozen: live && generation.cgroup.is_frozen(),
            drain: generation
                .drain
                .as_ref()
                .map(|drain| drain.status(self.clients(generation.id))),
            ending: None,
            listeners: found
                .iter()
                .map(|waiting| self.listener_status(waiting, generation))
                .collect(),
            output: self.places.output(self.name(), &generation.name),
        }
    }

    fn listener_status(&self, waiting: &Waiting, generation: &Generation) -> ListenerStatus {
        let slot = generation.steered.get(&waiting.cookie).copied();
        let hangs_for = generation
            .progress
            .hangs_for(waiting.cookie, clock::since_boot());
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
            steered: slot.is_some() || generation.datagrams.contains_key(&waiting.cookie),
            open: slot.and_then(|slot| self.open_at(slot)),
            hangs_for_ms: hangs_for.map(clock::millis),
        }
    }
}

/// What a ledger means that cannot be written.
pub(super) fn ledger_warning(error: &str) -> String {
    format!(
        "the ledger cannot be written: {error}; an agent that starts now would not know about \
         later changes: its disk must respond, be writable, and have space"
    )
}

fn in_short(latencies: &Latencies) -> LatencyStatus {
    LatencyStatus {
        queue_wait: Quantiles::of(&latencies.queue_wait),
        service_time: Quantiles::of(&latencies.service_time),
        lifetime: Quantiles::of(&latencies.lifetime),
    }
}

/// How a rollback to the generation would go.
fn tier(generation: &Generation) -> Option<Tier> {
    match generation.state {
        GenerationState::Standby if generation.cgroup.is_frozen() => Some(Tier::Hot),
        GenerationState::Standby | GenerationState::Draining | GenerationState::Ready => {
            Some(Tier::Warm)
        }
        GenerationState::Stopped | GenerationState::Stopping
            if generation.outside.is_started_elsewhere() =>
        {
            None
        }
        GenerationState::Stopped | GenerationState::Stopping => Some(Tier::Cold),
        GenerationState::Starting | GenerationState::Active | GenerationState::Failed => None,
    }
}

fn group_status(books: &Books, netns: &Netns, asked: Instant) -> Vec<GroupStatus> {
    let listing = Listing::since(netns, Protocol::Tcp, asked).ok();
    let queue = |cookie| {
        let parked = listing.as_ref()?.get(cookie)?;
        Some(parked.queue)
    };
    books
        .parks
        .all()
        .iter()
        .map(|parked| GroupStatus {
            address: parked.twin.address,
            v6only: parked.twin.address.is_ipv6().then_some(parked.twin.v6only),
            uid: parked.twin.uid,
            parking_queue: queue(parked.cookie).unwrap_or_default(),
        })
        .collect()
}
