//! Events for the agent. A full ring loses the event: each one only speeds up what the agent
//! would find by itself.

use lb_common::{Event, EventKind};

use crate::maps::EVENTS;

/// Sends an event that says something about a generation.
#[inline(always)]
pub fn send(kind: EventKind, generation: u32) {
    submit(Event {
        kind,
        generation,
        pid: 0,
        uid: 0,
        v6: false,
        port: 0,
        address: [0; 4],
        cgroup: 0,
    });
}

/// Sends an event.
#[inline(always)]
pub fn submit(event: Event) {
    let _lost = EVENTS.output(event.to_words(), 0);
}
