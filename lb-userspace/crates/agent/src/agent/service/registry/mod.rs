//! What a service knows of its generations.

mod command;
mod counts;
mod end;
mod generation;
mod slots;
mod sums;

pub(super) use command::Command;
pub(super) use generation::Generation;

use lb_common::{GenerationId, SteeringWord};

use super::{
    parks::Parks,
    rollout::InFlight,
    steering::{Moves, Steering},
};
use crate::{
    generation::keeper::Parked,
    rollout::{Member, Standing},
    store::{Ledger, Remembered},
    sys::{cgroup::Cgroup, process},
};
use sums::Sums;

/// Whether `down` ends the service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Going {
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
pub(super) struct Registry {
    /// Who gets new clients.
    steering: Steering,
    /// The generations, oldest first.
    generations: Vec<Generation>,
    /// Those that are no longer among them while their counting programs may still be there.
    counted_on: Vec<GenerationId>,
    /// The greatest id given.
    last_id: u32,
    /// The parking listeners.
    parks: Parks,
    /// The rollout that goes on, up to its drain.
    rollout: Option<InFlight>,
    /// The greatest token given to a rollout.
    last_token: u64,
    /// The server was found not to run twice.
    runs_alone: bool,
    /// Who is being deployed.
    deploying: Option<String>,
    /// What stays of those that are over.
    sums: Sums,
    /// Whether `down` ends the service.
    going: Going,
    /// Somebody outside had the ports when the service was opened: there are no parking listeners
    /// and nothing is steered until a generation is adopted, or deployed on free ports.
    awaits_adopt: bool,
    /// Why there is no keeper.
    keeper_error: Option<String>,
}

impl Registry {
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
            sums: Sums::default(),
            going: Going::Up,
            awaits_adopt,
            keeper_error: None,
        }
    }

    /// Whether `down` is ending the service, or has.
    pub(super) fn is_ending(&self) -> bool {
        self.going != Going::Up
    }

    /// Whether it has: nothing is written any more.
    pub(super) fn is_gone(&self) -> bool {
        self.going == Going::Gone
    }

    /// `down` ends the service.
    pub(super) const fn go_down(&mut self) {
        self.going = Going::Down;
    }

    /// It has.
    pub(super) const fn be_gone(&mut self) {
        self.going = Going::Gone;
    }

    /// Who gets new clients.
    pub(super) const fn steering(&self) -> &Steering {
        &self.steering
    }

    /// The same, to lead them.
    pub(super) const fn steering_mut(&mut self) -> &mut Steering {
        &mut self.steering
    }

    /// The generations, oldest first.
    pub(super) fn all(&self) -> std::slice::Iter<'_, Generation> {
        self.generations.iter()
    }

    /// The same, to change them.
    pub(super) fn all_mut(&mut self) -> std::slice::IterMut<'_, Generation> {
        self.generations.iter_mut()
    }

    /// Those of them that live.
    pub(super) fn living(&self) -> impl Iterator<Item = &Generation> {
        self.generations.iter().filter(|g| g.state().is_live())
    }

    /// Another one.
    pub(super) fn add(&mut self, generation: Generation) {
        self.generations.push(generation);
    }

    /// The generation with this name.
    pub(super) fn by_name(&self, name: &str) -> Option<&Generation> {
        self.generations.iter().rev().find(|g| g.name() == name)
    }

    /// The generation with this id.
    pub(super) fn get(&self, id: GenerationId) -> Option<&Generation> {
        self.generations.iter().find(|g| g.id() == id)
    }

    /// The generation with this id, to change it.
    pub(super) fn get_mut(&mut self, id: GenerationId) -> Option<&mut Generation> {
        self.generations.iter_mut().find(|g| g.id() == id)
    }

    /// The name of a generation.
    pub(super) fn name_of(&self, id: GenerationId) -> String {
        self.get(id)
            .map_or_else(|| format!("#{}", id.raw()), |g| g.name().to_owned())
    }

    /// Where its generations are.
    pub(super) fn cgroups(&self) -> Vec<Cgroup> {
        self.all().map(|g| g.cgroup().clone()).collect()
    }

    /// All names, each with its state.
    pub(super) fn names(&self) -> Vec<String> {
        let named = |g: &Generation| format!("{} ({})", g.name(), g.state().name());
        self.all().map(named).collect()
    }

    /// What decisions need.
    pub(super) fn decide<T>(&self, decide: impl FnOnce(Standing<'_>) -> T) -> T {
        let members: Vec<Member> = self.all().map(Generation::member).collect();
        decide(Standing {
            members: &members,
            previous: self.steering.previous(),
        })
    }

    /// An id whose seat nobody has; `in_use` says which seats still have open connections.
    pub(super) fn next_id(&mut self, in_use: impl Fn(u32) -> bool) -> Option<GenerationId> {
        let id = GenerationId::next_free(self.last_id, |seat| {
            in_use(seat) || self.living().any(|g| g.id().seat() == seat)
        })?;
        self.last_id = id.raw();
        Some(id)
    }

    /// `genN` with the smallest N above every name of that kind.
    pub(super) fn next_name(&self) -> String {
        let greatest = self
            .all()
            .filter_map(|g| g.name().strip_prefix("gen")?.parse::<u32>().ok())
            .max();
        format!("gen{}", greatest.unwrap_or_default().saturating_add(1))
    }

    /// Forgets the oldest of those that ended, but for so many and for where a rollback leads.
    pub(super) fn forget_ended(&mut self, remembered: usize) -> Vec<Generation> {
        let ended = self.all().filter(|g| !g.state().is_live());
        let mut excess = ended.count().saturating_sub(remembered);
        let previous = self.steering.previous();
        let (forgotten, kept) = std::mem::take(&mut self.generations)
            .into_iter()
            .partition::<Vec<_>, _>(|g| {
                let forget = excess > 0 && !g.state().is_live() && Some(g.id()) != previous;
                excess -= usize::from(forget);
                forget
            });
        self.generations = kept;
        self.counted_on.extend(forgotten.iter().map(Generation::id));
        forgotten
    }

    /// `former`, of this name, makes room for `id`, which inherits its place as the one to roll back to.
    pub(super) fn succeed(&mut self, name: &str, former: GenerationId, id: GenerationId) {
        self.steering.succeeds(former, id);
        self.generations.retain(|g| g.name() != name);
        self.counted_on.push(former);
    }

    /// Gives the programs up that count for those that have ended, where `stop` stopped them.
    pub(super) fn stop_counting(&mut self, stop: impl Fn(GenerationId) -> bool) {
        for ended in self.generations.iter_mut().filter(|g| !g.state().is_live()) {
            let id = ended.id();
            ended.counts_mut().give_up(|| stop(id));
        }
        self.counted_on.retain(|&id| !stop(id));
    }

    /// The parking listeners.
    pub(super) const fn parks(&self) -> &Parks {
        &self.parks
    }

    /// Another one for a group.
    pub(super) fn replace_park(&mut self, index: usize, fresh: Parked) {
        self.parks.replace(index, fresh);
    }

    /// Those are the parking listeners now.
    pub(super) fn set_parks(&mut self, parks: Parks) {
        self.parks = parks;
    }

    /// The rollout that goes on, up to its drain.
    pub(super) const fn rollout(&self) -> Option<&InFlight> {
        self.rollout.as_ref()
    }

    /// The rollout with this token, while it is the one that goes on.
    pub(super) fn rollout_of(&mut self, token: u64) -> Option<&mut InFlight> {
        self.rollout.as_mut().filter(|rollout| rollout.is(token))
    }

    /// A token for the next one.
    pub(super) const fn next_token(&mut self) -> u64 {
        self.last_token += 1;
        self.last_token
    }

    /// A rollout goes on from now on.
    pub(super) fn begin_rollout(&mut self, rollout: InFlight) {
        self.rollout = Some(rollout);
    }

    /// It does no longer.
    pub(super) const fn end_rollout(&mut self) -> Option<InFlight> {
        self.rollout.take()
    }

    /// The server was found not to run twice.
    pub(super) const fn runs_alone(&self) -> bool {
        self.runs_alone
    }

    /// It was handed over to one that ran alone; whether it has to be.
    pub(super) const fn note_alone(&mut self, runs_alone: bool) {
        self.runs_alone = runs_alone;
    }

    /// Who is being deployed.
    pub(super) fn deploying(&self) -> Option<&str> {
        self.deploying.as_deref()
    }

    /// Somebody is being deployed.
    pub(super) fn begin_deploy(&mut self, name: String) {
        self.deploying = Some(name);
    }

    /// Nobody is any more.
    pub(super) fn end_deploy(&mut self) {
        self.deploying = None;
    }

    /// That one is not any more, if it was.
    pub(super) fn end_deploy_of(&mut self, name: &str) {
        self.deploying = self.deploying.take().filter(|other| other != name);
    }

    /// What stays of those that are over.
    pub(super) const fn sums(&self) -> &Sums {
        &self.sums
    }

    /// The same, to count.
    pub(super) const fn sums_mut(&mut self) -> &mut Sums {
        &mut self.sums
    }

    /// Whether nothing is steered until a generation is adopted, or deployed on free ports.
    pub(super) const fn awaits_adopt(&self) -> bool {
        self.awaits_adopt
    }

    /// One was, or is about to be.
    pub(super) const fn await_no_adopt(&mut self) {
        self.awaits_adopt = false;
    }

    /// Why there is no keeper.
    pub(super) fn keeper_error(&self) -> Option<&str> {
        self.keeper_error.as_deref()
    }

    /// There is a keeper, or why there is none.
    pub(super) fn note_keeper(&mut self, error: Option<String>) {
        self.keeper_error = error;
    }

    /// Takes over what an earlier agent wrote down, but for the generations: says what it knew of those. The word may
    /// have moved after the last write of the ledger.
    pub(super) fn restore(&mut self, mut ledger: Ledger, word: SteeringWord) -> Vec<Remembered> {
        let in_word = [word.active, word.candidate].into_iter().flatten();
        self.last_id = in_word
            .map(GenerationId::raw)
            .fold(ledger.last_id, u32::max);
        let moves = Moves {
            promotes: ledger.promotes,
            rollbacks: ledger.rollbacks,
            failovers: ledger.failovers,
        };
        let previous = ledger.previous.and_then(GenerationId::new);
        let previous = previous.filter(|&previous| word.active != Some(previous));
        self.steering.remember(previous, moves);
        self.runs_alone = ledger.runs_alone;
        self.sums = Sums::restored(&mut ledger);
        ledger.generations
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
            retired: self.sums.retired(),
            past: self.sums.past().clone(),
            rollout_stats: self.sums.rollout_stats().clone(),
            habits: self.sums.habits().clone(),
            generations: self.all().map(Generation::remembered).collect(),
        }
    }
}
