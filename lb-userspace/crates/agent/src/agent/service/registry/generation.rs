//! One generation: what it is, and its state.

use std::{collections::BTreeSet, time::Duration};

use lb_common::GenerationId;

use super::{
    super::{drain::Drain, hung::Still, processes::Processes, seats::traced::Traced},
    command::Command,
    counts::Counts,
    end::End,
    slots::Slots,
};
use crate::{
    clock,
    datapath::{ConnectionCounts, Latencies},
    observed::Slowest,
    rollout::{GenerationState, Member},
    store::{Origin, Provenance, Remembered},
    sys::cgroup::Cgroup,
};

/// One generation.
#[derive(Debug)]
pub(in crate::agent::service) struct Generation {
    /// Its id.
    id: GenerationId,
    /// Its name.
    name: String,
    /// What it was started by.
    command: Command,
    /// Where its processes live.
    cgroup: Cgroup,
    /// Its first process and when that started.
    main: Option<(u32, u64)>,
    /// What it has outside hotlb.
    provenance: Provenance,
    /// Its state; set it with [`Generation::enter`].
    state: GenerationState,
    /// Why it is in this state.
    reason: Option<String>,
    /// Since when, in seconds since the host was started.
    since: u64,
    /// Whether it has ever been ready: if it fails then, that is news.
    was_ready: bool,
    /// Why a rollout got rid of it: it is ended once it is drained, and has failed then.
    failed: Option<String>,
    /// How long it is kept once it is drained, if other than configured.
    keep: Option<Duration>,
    /// Why it could not be frozen, if it should have been.
    not_frozen: Option<String>,
    /// Whether it takes up what waits for it, while it is active.
    still: Still,
    /// What is counted of it beside the kernel.
    counts: Counts,
    /// What it listens with.
    slots: Slots,
    /// How it is ended, and ended.
    end: End,
    /// The rollout it has a part in, or had last.
    traced: Option<Traced>,
}

impl Generation {
    /// One that begins now: nothing is known of it yet but its place.
    pub(in crate::agent::service) fn begin(id: GenerationId, name: String, cgroup: Cgroup) -> Self {
        Self {
            id,
            name,
            command: Command::default(),
            cgroup,
            main: None,
            provenance: Provenance::default(),
            state: GenerationState::Starting,
            reason: None,
            since: clock::since_boot().as_secs(),
            was_ready: false,
            failed: None,
            keep: None,
            not_frozen: None,
            still: Still::default(),
            counts: Counts::default(),
            slots: Slots::default(),
            end: End::default(),
            traced: None,
        }
    }

    /// The same, started by `command`, with the counts of earlier lives.
    pub(in crate::agent::service) fn of(self, command: Command, counted: ConnectionCounts) -> Self {
        Self {
            command,
            counts: Counts::inherited(counted),
            ..self
        }
    }

    /// The same, with what it has outside hotlb.
    pub(in crate::agent::service) fn having(self, provenance: Provenance) -> Self {
        Self { provenance, ..self }
    }

    /// One that an earlier agent wrote down, as it was found.
    pub(in crate::agent::service) fn restored(
        begun: Self,
        remembered: Remembered,
        (state, reason): (GenerationState, Option<String>),
        drain: Option<Drain>,
        same_boot: bool,
    ) -> Self {
        let changed = state != remembered.state;
        let counts = Counts::restored(&remembered, same_boot);
        let end = End::restored(&remembered, drain);
        let mut provenance = remembered.provenance;
        if changed && !state.is_live() {
            provenance.note_end(remembered.state);
        }
        Self {
            command: Command::new(
                remembered.command,
                remembered.cwd,
                remembered.env,
                remembered.roots,
            ),
            main: remembered.main,
            provenance,
            state,
            reason,
            since: if changed || !same_boot {
                begun.since
            } else {
                remembered.since
            },
            was_ready: remembered.was_ready,
            failed: remembered.failed,
            keep: remembered.keep,
            counts,
            end,
            ..begun
        }
    }

    /// What is written down of it.
    pub(super) fn remembered(&self) -> Remembered {
        Remembered {
            id: self.id.raw(),
            name: self.name.clone(),
            state: self.state,
            command: self.command.words().to_vec(),
            cwd: self.command.cwd().to_owned(),
            roots: self.command.roots().cloned(),
            env: self.command.env().clone(),
            main: self.main,
            reason: self.reason.clone(),
            since: self.since,
            counted: self.counts.counted(),
            was_ready: self.was_ready,
            keep: self.keep,
            unseated: self.counts.is_unseated(),
            failed: self.failed.clone(),
            provenance: self.provenance.clone(),
            drain_since: self.drain().map(Drain::since),
            signalled: self.end.signalled(),
            signalled_whom: self.end.signalled_whom().to_vec(),
            signalled_again: self.end.signalled_again(),
            signal_cut: self.end.signal_cut().map(str::to_owned),
            unseen_ends: self.counts.unseen_ends(),
            cut_list: match self.state {
                GenerationState::Stopping => self.end.cut_list().to_vec(),
                _ => Vec::new(),
            },
        }
    }

    /// What decisions need of it.
    pub(super) const fn member(&self) -> Member {
        Member {
            id: self.id,
            state: self.state,
        }
    }

    /// Its id.
    pub(in crate::agent::service) const fn id(&self) -> GenerationId {
        self.id
    }

    /// Its name.
    pub(in crate::agent::service) fn name(&self) -> &str {
        &self.name
    }

    /// What it was started by.
    pub(in crate::agent::service) const fn command(&self) -> &Command {
        &self.command
    }

    /// The same, to note what is known of it.
    pub(in crate::agent::service) const fn command_mut(&mut self) -> &mut Command {
        &mut self.command
    }

    /// Where its processes live.
    pub(in crate::agent::service) const fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// Its first process and when that started.
    pub(in crate::agent::service) const fn main(&self) -> Option<(u32, u64)> {
        self.main
    }

    /// This is its first process.
    pub(in crate::agent::service) const fn runs_as(&mut self, pid: u32, started: u64) {
        self.main = Some((pid, started));
    }

    /// Whether its first process lives.
    pub(in crate::agent::service) fn main_runs(&self) -> bool {
        self.processes().main_runs()
    }

    /// The process that stands for it.
    pub(in crate::agent::service) fn pid(&self) -> Option<u32> {
        self.processes().pid()
    }

    /// Where its connections and listeners are found.
    pub(in crate::agent::service) fn own_cgroup(&self) -> Option<Cgroup> {
        self.processes().own_cgroup()
    }

    const fn processes(&self) -> Processes<'_> {
        Processes {
            cgroup: &self.cgroup,
            main: self.main,
        }
    }

    /// What it has outside hotlb.
    pub(in crate::agent::service) const fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// The systemd service that it is, is stopped by this signal.
    pub(in crate::agent::service) fn note_unit_signal(&mut self, signal: String) {
        self.provenance.unit_signal = Some(signal);
    }

    /// These connections are older than the counting of them.
    pub(in crate::agent::service) fn note_earlier(&mut self, cookies: BTreeSet<u64>) {
        self.counts.note_opened(cookies.len() as u64);
        self.provenance.earlier = cookies;
    }

    /// Forgets those of them that are not open any more: says how many there were, and how many are left.
    pub(in crate::agent::service) fn keep_earlier(
        &mut self,
        is_open: impl Fn(&u64) -> bool,
    ) -> (usize, usize) {
        let before = self.provenance.earlier.len();
        self.provenance.earlier.retain(is_open);
        let left = self.provenance.earlier.len();
        self.counts.note_closed((before - left) as u64);
        (before, left)
    }

    /// Its state.
    pub(in crate::agent::service) const fn state(&self) -> GenerationState {
        self.state
    }

    /// Why it is in this state.
    pub(in crate::agent::service) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Since when, in seconds since the host was started.
    pub(in crate::agent::service) const fn since(&self) -> u64 {
        self.since
    }

    /// Whether it has ever been ready.
    pub(in crate::agent::service) const fn was_ready(&self) -> bool {
        self.was_ready
    }

    /// Moves into `state`, for `reason`.
    pub(in crate::agent::service) fn enter(
        &mut self,
        state: GenerationState,
        reason: Option<String>,
    ) {
        tracing::info!(
            generation = self.name,
            from = self.state.name(),
            to = state.name(),
            reason,
            "generation changed state"
        );
        if state == GenerationState::Failed {
            self.provenance.note_end(self.state);
        }
        self.still = Still::default();
        self.state = state;
        self.reason = reason;
        self.since = clock::since_boot().as_secs();
    }

    /// Why it is in its state has come out.
    pub(in crate::agent::service) fn explain(&mut self, reason: String) {
        self.reason = Some(reason);
    }

    /// It begins to end, for what was the reason before.
    pub(in crate::agent::service) fn enter_stopping(&mut self) {
        let reason = self.reason.take();
        self.enter(GenerationState::Stopping, reason);
    }

    /// It was found to serve.
    pub(in crate::agent::service) fn become_ready(&mut self) {
        self.was_ready = true;
        self.enter(GenerationState::Ready, None);
    }

    /// It ran already, and was found to serve. Nobody waits to promote one that was ready before: it stands by, and is
    /// kept for as long as others are.
    pub(in crate::agent::service) fn prove(&mut self) {
        let was_found = std::mem::replace(&mut self.was_ready, true);
        // Why one that was found is here, goes with it.
        let reason = self.reason.take().filter(|_| was_found);
        self.provenance.ended_from = None;
        if was_found && self.provenance.origin == Origin::Launched {
            self.enter(GenerationState::Standby, reason);
        } else {
            self.enter(GenerationState::Ready, reason);
        }
    }

    /// It was not adopted after all.
    pub(in crate::agent::service) fn give_back(&mut self, why: String) {
        self.enter(GenerationState::Failed, Some(why));
        self.was_ready = false;
        self.provenance.ended_from = None;
        self.provenance.earlier.clear();
        self.slots.clear();
    }

    /// A rollout gets rid of it: it has failed once it has ended.
    pub(in crate::agent::service) fn condemn(&mut self, why: String) {
        self.failed = Some(why);
    }

    /// Whether a rollout gets rid of it.
    pub(in crate::agent::service) const fn is_condemned(&self) -> bool {
        self.failed.is_some()
    }

    /// No rollout gets rid of it any more.
    pub(in crate::agent::service) fn acquit(&mut self) {
        self.failed = None;
    }

    /// The state it ends in, and why if a rollout got rid of it: a candidate makes room for the next of its name then.
    pub(in crate::agent::service) fn last_state(&mut self) -> (GenerationState, Option<String>) {
        match self.failed.take() {
            Some(why) => (GenerationState::Failed, Some(why)),
            None => (GenerationState::Stopped, None),
        }
    }

    /// How long it is kept once it is drained, if other than configured.
    pub(in crate::agent::service) const fn keep(&self) -> Option<Duration> {
        self.keep
    }

    /// It is kept for so long.
    pub(in crate::agent::service) const fn keep_for(&mut self, keep: Option<Duration>) {
        self.keep = keep;
    }

    /// Why it could not be frozen, if it should have been.
    pub(in crate::agent::service) fn not_frozen(&self) -> Option<&str> {
        self.not_frozen.as_deref()
    }

    /// It was frozen, or could not be.
    pub(in crate::agent::service) fn note_frozen(&mut self, not_frozen: Option<String>) {
        self.not_frozen = not_frozen;
    }

    /// Whether it takes up what waits for it.
    pub(in crate::agent::service) const fn still(&self) -> &Still {
        &self.still
    }

    /// The same, to note what a look found.
    pub(in crate::agent::service) const fn still_mut(&mut self) -> &mut Still {
        &mut self.still
    }

    /// What is counted of it beside the kernel.
    pub(in crate::agent::service) const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The same, to count.
    pub(in crate::agent::service) const fn counts_mut(&mut self) -> &mut Counts {
        &mut self.counts
    }

    /// What it listens with.
    pub(in crate::agent::service) const fn slots(&self) -> &Slots {
        &self.slots
    }

    /// The same, to give them.
    pub(in crate::agent::service) const fn slots_mut(&mut self) -> &mut Slots {
        &mut self.slots
    }

    /// How far its drain is, while it drains or ends.
    pub(in crate::agent::service) const fn drain(&self) -> Option<&Drain> {
        self.end.drain()
    }

    /// The same, to go on with it.
    pub(in crate::agent::service) const fn drain_mut(&mut self) -> Option<&mut Drain> {
        self.end.drain_mut()
    }

    /// It drains from now on.
    pub(in crate::agent::service) fn begin_drain(&mut self, drain: Drain) {
        self.end.begin_drain(drain);
    }

    /// Stops draining it.
    pub(in crate::agent::service) fn undrain(&mut self) {
        self.end.undrain();
    }

    /// How it is ended.
    pub(in crate::agent::service) const fn end(&self) -> &End {
        &self.end
    }

    /// The same, to note what is done.
    pub(in crate::agent::service) const fn end_mut(&mut self) -> &mut End {
        &mut self.end
    }

    /// A task comes to end it; whether it is the one that does.
    pub(in crate::agent::service) const fn begin_end(&mut self) -> bool {
        self.end.begin(self.state.is_live())
    }

    /// Its slowest clients in a rollout, when they have waited as in `now` so far.
    pub(in crate::agent::service) fn slowest(&self, now: Option<&Latencies>) -> Option<Slowest> {
        self.traced.as_ref()?.slowest(now)
    }

    /// The rollout it has a part in, or had last.
    pub(in crate::agent::service) const fn traced(&self) -> Option<&Traced> {
        self.traced.as_ref()
    }

    /// The same, to note what came of it.
    pub(in crate::agent::service) const fn traced_mut(&mut self) -> Option<&mut Traced> {
        self.traced.as_mut()
    }

    /// It has a part in a rollout.
    pub(in crate::agent::service) fn trace(&mut self, traced: Traced) {
        self.traced = Some(traced);
    }
}
