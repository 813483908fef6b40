//! A generation that takes nothing up as a whole: its server is dead behind a helper that holds its
//! listeners, stopped, or hangs.
//!
//! It is said, and that is all as long as it is active: a checkpoint, one long request of a server
//! that serves one at a time, and a pause of a garbage collector look alike. One that drains is
//! another matter (`drain`): who waits is led to the active one.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use lb_common::GenerationId;
use tokio::time::{MissedTickBehavior, interval};

use super::{Context, beside::in_turn, find::own_cgroup, recount, shared::SharedState};
use crate::{
    clock,
    generation::standstill::{Stands, Standstill},
    sys::{
        cgroup::Cgroup,
        listing::{LATELY, Listing},
        sock_diag::{DumpError, Protocol},
    },
};

/// Looks at the receive queues of a generation that may hang, one after the other.
const CLOSE_LOOKS: u32 = 3;
const BETWEEN: Duration = Duration::from_millis(25);

/// What is known of the active generation's queues.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Still {
    connections: Standstill,
    datagrams: Standstill,
    /// Whether it was said.
    said: bool,
}

impl Still {
    /// The connections' side, else the datagrams', and which.
    pub(super) fn lasts(&self, after: Duration) -> Option<(Stands, Protocol)> {
        let now = clock::since_boot();
        let tcp = self.connections.lasts(now, after);
        let udp = || self.datagrams.lasts(now, after);
        tcp.map(|stands| (stands, Protocol::Tcp))
            .or_else(|| udp().map(|stands| (stands, Protocol::Udp)))
    }
}

/// How often it is looked at.
const EACH: Duration = Duration::from_secs(1);
/// Looks between two comparisons of the counts with the kernel's list: whoever takes a callback away
/// does so for good.
const COMPARED: u32 = 10;

/// Looks at what has no event: whether the active generation stands still, and whether the counts are
/// true.
#[derive(Debug)]
pub(super) struct HangDetector {
    context: Arc<Context>,
    state: SharedState,
}

impl HangDetector {
    pub(super) const fn new(context: Arc<Context>, state: SharedState) -> Self {
        Self { context, state }
    }

    /// Looks for ever; wakes those who wait when a count was corrected.
    pub(super) async fn keep(&self) {
        let mut each = interval(EACH);
        each.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for look in (1..=COMPARED).cycle() {
            each.tick().await;
            self.look().await;
            if look == COMPARED && recount::compare_grown(&self.context, &self.state).await {
                self.state.ring();
            }
        }
    }

    async fn look(&self) {
        let (context, Some(id)) = (&self.context, self.context.path.word().active) else {
            return;
        };
        let Some(cgroup) = own_cgroup(&self.state, id).await else {
            return;
        };
        if !context.config.listen.is_empty() {
            let queue = self.listed(&cgroup, unaccepted).await.unwrap_or_default();
            let counts = context.path.connections(Some(id));
            let opened = (counts.opened + counts.moved_in).saturating_sub(counts.moved_out);
            self.note(id, |still| {
                still
                    .connections
                    .connections(clock::since_boot(), opened, queue);
            })
            .await;
        }
        let mut tick = interval(BETWEEN);
        for _look in 0..=CLOSE_LOOKS {
            tick.tick().await;
            let Some(unread) = self.listed(&cgroup, unread).await else {
                break;
            };
            let suspected = self
                .note(id, |still| {
                    still.datagrams.datagrams(clock::since_boot(), unread);
                })
                .await;
            if !suspected {
                break;
            }
        }
        self.tell(id).await;
    }

    /// What a look says that asks the kernel for lists of sockets.
    async fn listed(
        &self,
        cgroup: &Cgroup,
        look: fn(&Context, &Cgroup) -> Option<u64>,
    ) -> Option<u64> {
        let (context, cgroup) = (Arc::clone(&self.context), cgroup.clone());
        in_turn(move || look(&context, &cgroup)).await
    }

    /// Whether datagrams are suspected to lie.
    async fn note(&self, id: GenerationId, note: impl FnOnce(&mut Still)) -> bool {
        let mut registry = self.state.lock().await;
        let Some(generation) = registry.get_mut(id) else {
            return false;
        };
        note(generation.still_mut());
        generation.still().datagrams.is_suspected()
    }

    async fn tell(&self, id: GenerationId) {
        let after = self.context.config.drain.hung_after;
        let mut registry = self.state.lock().await;
        let Some(generation) = registry.get_mut(id) else {
            return;
        };
        let hung = generation.still().lasts(after).is_some();
        if hung == generation.still().said {
            return;
        }
        generation.still_mut().said = hung;
        let (service, generation) = (self.context.name(), generation.name());
        if hung {
            tracing::error!(service, generation, "the active generation hangs");
        } else {
            tracing::info!(service, generation, "the active generation no longer hangs");
        }
    }
}

/// Connections in the accept queues of the server in this cgroup.
fn unaccepted(context: &Context, cgroup: &Cgroup) -> Option<u64> {
    queued(context, cgroup, Protocol::Tcp, &context.config.listen).ok()
}

/// Bytes of datagrams that the server in this cgroup has not read; `None` for a service without
/// UDP.
pub(super) fn unread(context: &Context, cgroup: &Cgroup) -> Option<u64> {
    let listen = &context.config.datagrams.as_ref()?.listen;
    queued(context, cgroup, Protocol::Udp, listen).ok()
}

/// What waits in the queues of the server's sockets at these addresses.
fn queued(
    context: &Context,
    cgroup: &Cgroup,
    protocol: Protocol,
    listen: &[SocketAddr],
) -> Result<u64, DumpError> {
    let waiting = |listing: &Listing| -> u64 {
        let own = listing.below(cgroup).into_iter();
        let own = own.filter(|socket| listen.contains(&socket.address));
        own.map(|socket| u64::from(socket.queue)).sum()
    };
    // All services share that one. Where something waited the moment counts, and a list of it.
    let lately = waiting(&*Listing::recent(&context.netns, protocol, LATELY)?);
    if lately == 0 {
        return Ok(0);
    }
    Ok(waiting(&Listing::now(&context.netns, protocol)?))
}
