//! A generation that takes nothing up as a whole: its server is dead behind a helper that holds its
//! listeners, stopped, or hangs.
//!
//! It is said, and that is all as long as it is active: a checkpoint, one long request of a server
//! that serves one at a time, and a pause of a garbage collector look alike. One that drains is
//! another matter (`drain`): who waits is led to the active one.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use lb_common::GenerationId;
use tokio::time::{MissedTickBehavior, interval};

use super::{
    Service,
    books::{Books, Generation},
};
use crate::{
    clock,
    generation::{
        adoptee::describe,
        standstill::{Stands, Standstill},
    },
    rollout::GenerationState,
    sys::{
        cgroup::Cgroup,
        listing::{LATELY, Listing},
        process,
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
    fn lasts(&self, after: Duration) -> Option<(Stands, Protocol)> {
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

impl Service {
    /// Looks at what has no event: whether the active generation stands still, and whether the
    /// counts are true.
    pub(super) async fn keep_looking(self: Arc<Self>) {
        let mut each = interval(EACH);
        each.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for look in (1..=COMPARED).cycle() {
            each.tick().await;
            self.look_for_hung().await;
            if look == COMPARED {
                self.compare_grown().await;
            }
        }
    }

    async fn look_for_hung(&self) {
        let Some(id) = self.path.word().active else {
            return;
        };
        let Some(cgroup) = self.own_cgroup(id).await else {
            return;
        };
        if !self.config.listen.is_empty() {
            let queue = self
                .queued(&cgroup, Protocol::Tcp, &self.config.listen)
                .unwrap_or_default();
            let counts = self.path.connections(Some(id));
            let opened = (counts.opened + counts.moved_in).saturating_sub(counts.moved_out);
            self.note_still(id, |still| {
                still
                    .connections
                    .connections(clock::since_boot(), opened, queue);
            })
            .await;
        }
        let mut tick = interval(BETWEEN);
        for _look in 0..=CLOSE_LOOKS {
            tick.tick().await;
            let Some(unread) = self.unread(&cgroup) else {
                break;
            };
            let suspected = self
                .note_still(id, |still| {
                    still.datagrams.datagrams(clock::since_boot(), unread);
                })
                .await;
            if !suspected {
                break;
            }
        }
        self.tell_hung(id).await;
    }

    /// Bytes of datagrams that the server in this cgroup has not read; `None` for a service without
    /// UDP.
    pub(super) fn unread(&self, cgroup: &Cgroup) -> Option<u64> {
        let listen = &self.config.datagrams.as_ref()?.listen;
        self.queued(cgroup, Protocol::Udp, listen).ok()
    }

    /// What waits in the queues of the server's sockets at these addresses.
    fn queued(
        &self,
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
        let lately = waiting(&*Listing::recent(&self.netns, protocol, LATELY)?);
        if lately == 0 {
            return Ok(0);
        }
        Ok(waiting(&Listing::now(&self.netns, protocol)?))
    }

    /// Whether datagrams are suspected to lie.
    async fn note_still(&self, id: GenerationId, note: impl FnOnce(&mut Still)) -> bool {
        let mut books = self.books.lock().await;
        let Some(generation) = books.get_mut(id) else {
            return false;
        };
        note(&mut generation.still);
        generation.still.datagrams.is_suspected()
    }

    async fn tell_hung(&self, id: GenerationId) {
        let after = self.config.drain.hung_after;
        let mut books = self.books.lock().await;
        let Some(generation) = books.get_mut(id) else {
            return;
        };
        let hung = generation.still.lasts(after).is_some();
        if hung == generation.still.said {
            return;
        }
        generation.still.said = hung;
        let (service, generation) = (self.name(), generation.name.as_str());
        if hung {
            tracing::error!(service, generation, "the active generation hangs");
        } else {
            tracing::info!(service, generation, "the active generation no longer hangs");
        }
    }

    /// For how long the generation has taken nothing up, if it is active and hangs.
    pub(super) fn hangs_for(&self, generation: &Generation) -> Option<Duration> {
        let (stands, _) = self.hangs(generation)?;
        Some(stands.for_)
    }

    fn hangs(&self, generation: &Generation) -> Option<(Stands, Protocol)> {
        let active = generation.state == GenerationState::Active;
        let after = self.config.drain.hung_after;
        active.then(|| generation.still.lasts(after)).flatten()
    }

    /// What `status` says.
    pub(super) fn hung_warnings(&self, books: &Books, warnings: &mut Vec<String>) {
        for generation in &books.generations {
            let name = &generation.name;
            if let Some((stands, protocol)) = self.hangs(generation) {
                let (waiting, seconds) = (stands.waiting, stands.for_.as_secs());
                let what = match protocol {
                    Protocol::Tcp => {
                        format!(
                            "it accepted no connection for {seconds}s, and {waiting} clients wait"
                        )
                    }
                    Protocol::Udp => {
                        format!("it read nothing for {seconds}s, and {waiting} bytes wait")
                    }
                };
                let advice = match books.steering.previous() {
                    Some(_) => "run `hotlb rollback`, or end it: its clients are then handed over",
                    None => {
                        "upgrade to another generation, or end it: its clients then wait until \
                         there is one"
                    }
                };
                warnings.push(format!(
                    "{name} hangs: {what}{}; hotlb waits because it may recover; if it does not, \
                     {advice}",
                    plight(generation)
                ));
            } else if generation.state == GenerationState::Active
                && let Some((pid, _)) = generation.main.filter(|_| generation.main_runs())
                && process::is_stopped(pid)
            {
                warnings.push(format!(
                    "{name} is stopped: {} was sent SIGSTOP, or is being traced; continue it with \
                     `kill -CONT {pid}`",
                    describe(pid)
                ));
            }
        }
    }
}

/// What is known of its processes.
fn plight(generation: &Generation) -> String {
    let pids = generation.own_cgroup().map(|cgroup| cgroup.pids());
    let stopped = pids.unwrap_or_default().into_iter();
    let stopped: Vec<u32> = stopped.filter(|&pid| process::is_stopped(pid)).collect();
    if let Some(&first) = stopped.first() {
        let all = stopped.iter().map(|pid| format!(" {pid}"));
        return format!(
            " ({} is stopped: kill -CONT{})",
            describe(first),
            all.collect::<String>()
        );
    }
    match generation.main {
        Some((pid, _)) if !generation.main_runs() => match generation.pid() {
            Some(left) => format!(
                " (its first process, {pid}, has ended; {} is left)",
                describe(left)
            ),
            None => format!(" (its first process, {pid}, has ended)"),
        },
        _ => String::new(),
    }
}
