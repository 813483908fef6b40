//! All listeners of the host at one moment: one question to the kernel for all generations.

use std::collections::HashMap;

use crate::sys::{
    cgroup::Cgroup,
    sock_diag::{self, Protocol},
};

/// Accept queues and dropped handshakes, by the cgroup of the listener.
#[derive(Debug, Default)]
pub(super) struct Listeners(HashMap<u64, (u32, u64)>);

impl Listeners {
    /// Those there are; none where the kernel does not say whose they are (before 5.7).
    pub(super) fn now() -> Self {
        let mut by_cgroup: HashMap<u64, (u32, u64)> = HashMap::new();
        for waiting in sock_diag::waiting(Protocol::Tcp).unwrap_or_default() {
            if let Some(cgroup) = waiting.cgroup {
                let (queue, dropped) = by_cgroup.entry(cgroup).or_default();
                *queue += waiting.queue;
                *dropped += u64::from(waiting.dropped);
            }
        }
        Self(by_cgroup)
    }

    /// Connections in the accept queues of a generation, and handshakes it dropped so far.
    pub(super) fn of(&self, cgroup: &Cgroup) -> (u32, u64) {
        let ids = cgroup.ids();
        let own = ids.iter().filter_map(|id| self.0.get(id));
        own.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
    }
}
