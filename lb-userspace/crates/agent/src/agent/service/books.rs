//! What a service knows of its generations.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use lb_common::GenerationId;
use tokio::sync::watch;

use super::{
    again::Look, drain::Drain, hung::Still, parks::Parks, processes::Processes, rollout::InFlight,
    seats::traced::Traced, steering::Steering, workers::Untaken,
};
use crate::{
    clock::{self, Deadline},
    datapath::{ConnectionCounts, Latencies},
    generation::{progress::Progress, roots::Roots},
    rollout::{GenerationState, Member, Standing, habit::Habits},
    store::{Ledger, Outside, Remembered, Tally, journal::CutConnection},
    sys::{cgroup::Cgroup, process},
};

/// Whether the kernel counts the connections of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counting {
    /// It does, or may.
    On,
    /// Its last connection has closed, and the program is given up.
    Over,
}

/// One generation.
#[derive(Debug)]
pub(super) struct Generation {
    /// Its id.
    pub(super) id: GenerationId,
    /// Its name.
    pub(super) name: String,
    /// Its state; set it with [`Generation::enter`].
    pub(super) state: GenerationState,
    /// Program and arguments.
    pub(super) command: Vec<String>,
    /// Where it is started.
    pub(super) cwd: PathBuf,
    /// Who looks whether it could be started again.
    pub(super) look: Look,
    /// The file that is executed, once that is known.
    pub(super) program: Option<PathBuf>,
    /// What stood at these paths when it was started.
    pub(super) roots: Option<Roots>,
    /// What is added to its environment.
    pub(super) env: BTreeMap<String, String>,
    /// Why it is doubtful that its program can be loaded.
    pub(super) doubt: Option<String>,
    /// Where its processes live.
    pub(super) cgroup: Cgroup,
    /// Its first process and when that started.
    pub(super) main: Option<(u32, u64)>,
    /// Why it is in this state.
    pub(super) reason: Option<String>,
    /// Since when, in seconds since the host was started.
    pub(super) since: u64,
    /// Its counts that are not in the kernel: of earlier lives, and its own once its seat is
    /// another's.
    pub(super) counted: ConnectionCounts,
    /// Whether another generation has its seat by now.
    pub(super) unseated: bool,
    /// The slots of its listeners, by cookie.
    pub(super) steered: BTreeMap<u64, u32>,
    /// Which of its listeners hang.
    pub(super) progress: Progress,
    /// Whether it takes up what waits for it, while it is active.
    pub(super) still: Still,
    /// Cookies of the UDP sockets that have slots, and the slots.
    pub(super) datagrams: BTreeMap<u64, u32>,
    /// When they were given.
    pub(super) slotted: Instant,
    /// Until when its binds are followed: a listener may come at any moment.
    pub(super) reloads: Option<Deadline>,
    /// Connections that were counted and not found when they were last compared.
    pub(super) missing: u64,
    /// Those whose end was not counted by the kernel.
    pub(super) unseen_ends: u64,
    /// How many were open when they were last compared.
    pub(super) compared_at: u64,
    /// Listeners for which there was no slot.
    pub(super) unsteered: usize,
    /// Those that nobody could take.
    pub(super) untaken: Untaken,
    /// Whether a task of this agent is ending it.
    pub(super) being_ended: bool,
    /// When it was sent its signal, in seconds since the host was started: a second one would have
    /// many servers quit at once.
    pub(super) told: Option<u64>,
    /// Who was told then: processes, and when they started.
    pub(super) told_whom: Vec<(u32, u64)>,
    /// When others were told, those having ended, in seconds since the host was started.
    pub(super) told_again: Option<u64>,
    /// What its signal cut, if it cut anything.
    pub(super) signal_cut: Option<String>,
    /// Whether its counting program runs.
    pub(super) counting: Counting,
    /// Connections that were cut because its deadline was over.
    pub(super) cut: Option<u64>,
    /// What `join` reported of its binds.
    pub(super) binds: Vec<String>,
    /// Whether it has ever been ready: if it fails then, that is news.
    pub(super) was_ready: bool,
    /// How it ended, once it has. Receivers wait for that; the watch task sends.
    pub(super) ended: watch::Sender<Option<String>>,
    /// How far its drain is, while it drains or ends.
    pub(super) drain: Option<Drain>,
    /// What of it serves on although it was to end.
    pub(super) left: Option<String>,
    /// Why a rollout got rid of it: it is ended once it is drained, and has failed then.
    pub(super) failed: Option<String>,
    /// Why it could not be frozen, if it should have been.
    pub(super) not_frozen: Option<String>,
    /// How long it is kept once it is drained, if other than configured.
    pub(super) keep: Option<Duration>,
    /// The connections that were cut.
    pub(super) cut_list: Vec<CutConnection>,
    /// What it has outside hotlb.
    pub(super) outside: Outside,
    /// The rollout it has a part in, or had last.
    pub(super) traced: Option<Traced>,
}

impl Generation {
    /// One that begins now: nothing is known of it yet but its place.
    pub(super) fn begin(id: GenerationId, name: String, cgroup: Cgroup) -> Self {
        Self {
            id,
            name,
            state: GenerationState::Starting,
            command: Vec::new(),
            cwd: PathBuf::new(),
            look: Look::default(),
            program: None,
            roots: None,
            env: BTreeMap::new(),
            doubt: None,
            cgroup,
            main: None,
            reason: None,
            since: clock::since_boot().as_secs(),
            counted: ConnectionCounts::default(),
            unseated: false,
            steered: BTreeMap::new(),
            progress: Progress::default(),
            still: Still::default(),
            datagrams: BTreeMap::new(),
            slotted: clock::now(),
            reloads: None,
            missing: 0,
            unseen_ends: 0,
            compared_at: 0,
            unsteered: 0,
            untaken: Untaken::default(),
            being_ended: false,
            told: None,
            told_whom: Vec::new(),
            told_again: None,
            signal_cut: None,
            counting: Counting::On,
            cut: None,
            binds: Vec::new(),
            was_ready: false,
            ended: watch::Sender::new(None),
            drain: None,
            left: None,
            failed: None,
            not_frozen: None,
            keep: None,
            cut_list: Vec::new(),
            outside: Outside::default(),
            traced: None,
        }
    }

    /// Moves into `state`, for `reason`.
    pub(super) fn enter(&mut self, state: GenerationState, reason: Option<String>) {
        tracing::info!(
            generation = self.name,
            from = self.state.name(),
            to = state.name(),
            reason,
            "generation changed state"
        );
        if state == GenerationState::Failed {
            self.outside.note_end(self.state);
        }
        self.still = Still::default();
        self.state = state;
        self.reason = reason;
        self.since = clock::since_boot().as_secs();
    }

    /// Whether its first process lives.
    pub(super) fn main_runs(&self) -> bool {
        self.processes().main_runs()
    }

    /// The process that stands for it.
    pub(super) fn pid(&self) -> Option<u32> {
        self.processes().pid()
    }

    /// Where its connections and listeners are found.
    pub(super) fn own_cgroup(&self) -> Option<Cgroup> {
        self.processes().own_cgroup()
    }

    const fn processes(&self) -> Processes<'_> {
        Processes {
            cgroup: &self.cgroup,
            main: self.main,
        }
    }

    /// Stops draining it.
    pub(super) fn undrain(&mut self) {
        if let Some(mut drain) = self.drain.take() {
            drain.abort();
        }
    }
}

/// Whether `down` ends the service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Going {
    /// No.
    #[default]
    Up,
    /// It does.
    Down,
    /// It has: nothing is written any more.
    Gone,
}

/// What changes about a service.
#[derive(Debug)]
pub(super) struct Books {
    /// Who gets new clients.
    pub(super) steering: Steering,
    /// The generations, oldest first.
    pub(super) generations: Vec<Generation>,
    /// Those that are no longer among them while their counting programs may still be there.
    pub(super) counted_on: Vec<GenerationId>,
    /// The greatest id given.
    pub(super) last_id: u32,
    /// The parking listeners.
    pub(super) parks: Parks,
    /// The rollout that goes on, up to its drain.
    pub(super) rollout: Option<InFlight>,
    /// The greatest token given to a rollout.
    pub(super) last_token: u64,
    /// The server was found not to run twice.
    pub(super) runs_alone: bool,
    /// Who is being deployed.
    pub(super) deploying: Option<String>,
    /// Connections of generations that are not remembered any more.
    pub(super) retired: ConnectionCounts,
    /// How long clients waited whose generations are not in the kernel's tables any more.
    pub(super) past: Latencies,
    /// What its rollouts came to.
    pub(super) tally: Tally,
    /// What its programs were seen to do on their signals.
    pub(super) habits: Habits,
    /// Whether `down` ends the service.
    pub(super) going: Going,
    /// Somebody outside had the ports when the service was opened: there are no parking listeners
    /// and nothing is steered until a generation is adopted, or deployed on free ports.
    pub(super) awaits_adopt: bool,
    /// Why there is no keeper.
    pub(super) keeper_error: Option<String>,
}

impl Books {
    /// Those of a service that was just opened.
    pub(super) fn new(steering: Steering, awaits_adopt: bool) -> Self {
        Self {
            steering,
            generations: Vec::new(),
            counted_on: Vec::new(),
            last_id: 0,
            parks: Parks::default(),
            rollout: None,
            last_token: 0,
            runs_alone: false,
            deploying: None,
            retired: ConnectionCounts::default(),
            past: Latencies::default(),
            tally: Tally::default(),
            habits: Habits::default(),
            going: Going::Up,
            awaits_adopt,
            keeper_error: None,
        }
    }

    /// Whether `down` is ending the service, or has.
    pub(super) fn is_ending(&self) -> bool {
        self.going != Going::Up
    }

    /// The generation with this name.
    pub(super) fn by_name(&self, name: &str) -> Option<&Generation> {
        self.generations.iter().rev().find(|g| g.name == name)
    }

    /// The generation with this id.
    pub(super) fn get(&self, id: GenerationId) -> Option<&Generation> {
        self.generations.iter().find(|g| g.id == id)
    }

    /// The generation with this id, to change it.
    pub(super) fn get_mut(&mut self, id: GenerationId) -> Option<&mut Generation> {
        self.generations.iter_mut().find(|g| g.id == id)
    }

    /// The rollout with this token, while it is the one that goes on.
    pub(super) fn rollout_of(&mut self, token: u64) -> Option<&mut InFlight> {
        self.rollout.as_mut().filter(|rollout| rollout.is(token))
    }

    /// The name of a generation.
    pub(super) fn name_of(&self, id: GenerationId) -> String {
        self.get(id)
            .map_or_else(|| format!("#{}", id.raw()), |g| g.name.clone())
    }

    /// Where its generations are.
    pub(super) fn cgroups(&self) -> Vec<Cgroup> {
        self.generations.iter().map(|g| g.cgroup.clone()).collect()
    }

    /// All names, each with its state.
    pub(super) fn names(&self) -> Vec<String> {
        let named = |g: &Generation| format!("{} ({})", g.name, g.state.name());
        self.generations.iter().map(named).collect()
    }

    /// What decisions need.
    pub(super) fn decide<T>(&self, decide: impl FnOnce(Standing<'_>) -> T) -> T {
        let members: Vec<Member> = self
            .generations
            .iter()
            .map(|g| Member {
                id: g.id,
                state: g.state,
            })
            .collect();
        decide(Standing {
            members: &members,
            previous: self.steering.previous(),
        })
    }

    /// An id whose seat nobody has; `in_use` says which seats still have open connections.
    pub(super) fn next_id(&mut self, in_use: impl Fn(u32) -> bool) -> Option<GenerationId> {
        let id = GenerationId::next_free(self.last_id, |seat| {
            let held = |g: &Generation| g.state.is_live() && g.id.seat() == seat;
            in_use(seat) || self.generations.iter().any(held)
        })?;
        self.last_id = id.raw();
        Some(id)
    }

    /// `genN` with the smallest N above every name of that kind.
    pub(super) fn next_name(&self) -> String {
        let greatest = self
            .generations
            .iter()
            .filter_map(|g| g.name.strip_prefix("gen")?.parse::<u32>().ok())
            .max();
        format!("gen{}", greatest.unwrap_or_default().saturating_add(1))
    }

    /// What is written down.
    pub(super) fn to_ledger(&self) -> Ledger {
        let moves = self.steering.moves();
        Ledger {
            boot: process::boot_id(),
            last_id: self.last_id,
            previous: self.steering.previous().map(GenerationId::raw),
            promotes: moves.promotes,
            rollbacks: moves.rollbacks,
            failovers: moves.failovers,
            runs_alone: self.runs_alone,
            retired: self.retired,
            past: self.past.clone(),
            tally: self.tally.clone(),
            habits: self.habits.clone(),
            generations: self.generations.iter().map(remember).collect(),
        }
    }
}

fn remember(generation: &Generation) -> Remembered {
    Remembered {
        id: generation.id.raw(),
        name: generation.name.clone(),
        state: generation.state,
        command: generation.command.clone(),
        cwd: generation.cwd.clone(),
        roots: generation.roots.clone(),
        env: generation.env.clone(),
        main: generation.main,
        reason: generation.reason.clone(),
        since: generation.since,
        counted: generation.counted,
        was_ready: generation.was_ready,
        keep: generation.keep,
        unseated: generation.unseated,
        failed: generation.failed.clone(),
        outside: generation.outside.clone(),
        drain_since: generation.drain.as_ref().map(|drain| drain.since),
        told: generation.told,
        told_whom: generation.told_whom.clone(),
        told_again: generation.told_again,
        signal_cut: generation.signal_cut.clone(),
        unseen_ends: generation.unseen_ends,
        cut_list: match generation.state {
            GenerationState::Stopping => generation.cut_list.clone(),
            _ => Vec::new(),
        },
    }
}
