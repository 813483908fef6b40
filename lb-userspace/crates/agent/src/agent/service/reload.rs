//! A server that opens its listeners anew: they get slots as they come, and who waits for them is
//! handed over.

use std::{sync::Arc, time::Duration};

use lb_common::{GenerationId, steering};
use tokio::time::MissedTickBehavior;

use super::{
    Context,
    halt::Halt,
    parking::{Parking, someone_waits},
    registry::{Generation, Registry},
    shared::SharedState,
    slots::register,
};
use crate::clock::Deadline;

/// How often it is said that the agent runs.
const BEATS: Duration = Duration::from_nanos(steering::BEATS);
/// How long a generation is followed after the last word of it: longer than clients wait.
const FOLLOWED: Duration = Duration::from_nanos(steering::REOPENING + 50_000_000);
/// The first look after a bind: the listener comes with the server's next call.
const FIRST: Duration = Duration::from_micros(100);
/// The pace of later ones.
const SLOWEST: Duration = Duration::from_millis(20);
/// A server that binds without end, a UDP socket for each of its clients, is looked at less often.
const BUSY: Duration = Duration::from_secs(1);
const RARE: Duration = Duration::from_millis(100);

/// Follows servers that open their listeners anew.
#[derive(Debug)]
pub(super) struct Reloads {
    context: Arc<Context>,
    state: SharedState,
    parking: Arc<Parking>,
    halt: Halt,
}

context_of!(Reloads);

impl Reloads {
    /// Those of a service.
    pub(super) fn new(
        context: &Arc<Context>,
        state: &SharedState,
        parking: &Arc<Parking>,
        halt: &Halt,
    ) -> Self {
        Self {
            context: Arc::clone(context),
            state: state.clone(),
            parking: Arc::clone(parking),
            halt: halt.clone(),
        }
    }

    /// Says that the agent runs, for as long as it does.
    pub(super) async fn keep_beating(self: Arc<Self>) {
        let mut beats = tokio::time::interval(BEATS);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beats.tick().await;
            self.path.beat();
        }
    }

    /// A process of this cgroup bound an address of the service.
    pub(super) fn follow_bind(self: &Arc<Self>, registry: &mut Registry, cgroup: u64) {
        let able = registry.all().rev();
        let mut able = able.filter(|generation| generation.state().can_serve());
        let owner = able.find(|generation| generation.cgroup().ids().contains(&cgroup));
        if let Some(id) = owner.map(Generation::id) {
            self.follow(registry, id);
        }
    }

    /// Looks for new listeners of the generation for a moment.
    pub(super) fn follow(self: &Arc<Self>, registry: &mut Registry, id: GenerationId) {
        let Some(generation) = registry.get_mut(id) else {
            return;
        };
        if !generation.state().can_serve() {
            return; // a candidate's are looked for anyway
        }
        let until = Deadline::after(FOLLOWED);
        if generation.slots_mut().follow(until) {
            tokio::spawn(Arc::clone(self).give_slots_soon(id));
        }
    }

    async fn give_slots_soon(self: Arc<Self>, id: GenerationId) {
        let busy = Deadline::after(BUSY);
        let mut pause = FIRST;
        while self.give_new_slots(id, &mut pause).await {
            // Listening has no event: a few looks, further and further apart, until `FOLLOWED`.
            let next = busy.left().map_or(RARE, |_still| pause);
            tokio::time::sleep_until(Deadline::after(next).instant()).await;
            pause = (pause * 2).min(SLOWEST);
        }
    }

    /// One look; whether to look again.
    async fn give_new_slots(self: &Arc<Self>, id: GenerationId, pause: &mut Duration) -> bool {
        let mut registry = self.state.lock().await;
        let Some(generation) = registry.get_mut(id) else {
            return false;
        };
        let halted = self.halt.is_halted() || !generation.state().can_serve();
        let is_over = generation.slots_mut().is_followed_no_more(halted);
        if halted {
            return false;
        }
        let slots = generation.slots();
        let before = (slots.steered().clone(), slots.datagrams().clone());
        // What does not fit (yet) is found, and said, once a second.
        let fits = register(self, &mut registry, id).is_ok();
        let changed = registry.get(id).is_some_and(|g| {
            (g.slots().steered(), g.slots().datagrams()) != (&before.0, &before.1)
        });
        if changed {
            *pause = FIRST;
            tracing::info!(
                service = self.name(),
                generation = registry.name_of(id),
                "a server reopened its listeners"
            );
        }
        let active = self.path.word().active;
        let serves = fits && active == Some(id) && self.listens(id);
        if (serves || is_over) && someone_waits(self, active) {
            self.parking.release();
        }
        !is_over
    }
}
