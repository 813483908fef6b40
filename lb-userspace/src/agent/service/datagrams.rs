//! The UDP side of a service: its generations' sockets, and the flows a drain waits for.
//!
//! Datagrams have no queue that could be moved and no connection that ends. A generation is drained of
//! them when each of its flows has been idle for `flow_idle`, or at the drain's deadline: flows that
//! are left then go where new ones do.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use lb_common::GenerationId;

use super::{CheckError, Pace, Service, books::Generation};
use crate::{
    clock::Deadline,
    datapath::Registered,
    generation::{
        fit::{self, Misfit},
        listeners,
    },
    sys::{
        cgroup::Cgroup,
        listener::Twin,
        sock_diag::{self, Protocol, Waiting},
    },
};

/// Longest wait for a server that gets no datagram any more to read those it has.
const UNREAD: Duration = Duration::from_secs(1);

impl Service {
    /// The generation's UDP sockets in each group, or why they do not fit.
    pub(super) fn datagram_members(
        &self,
        generation: &Generation,
    ) -> Result<Vec<Vec<Waiting>>, CheckError> {
        let Some(datagrams) = &self.config.datagrams else {
            return Ok(Vec::new());
        };
        let all = sock_diag::waiting(Protocol::Udp)?;
        let found = listeners::find(&generation.cgroup, Protocol::Udp)?;
        let twins: Vec<Twin> = datagrams
            .listen
            .iter()
            .map(|&address| Twin {
                address,
                v6only: found_there(address, &all, &generation.steered)
                    .or_else(|| found_there(address, &found, &BTreeSet::new()))
                    .unwrap_or_default(),
                uid: self.config.identity.uid,
            })
            .collect();
        fit::fit(&twins, &found).map_err(|misfit| match misfit {
            Misfit::Missing { address, found, .. } => CheckError::NoDatagrams {
                address,
                found: found.join(", "),
            },
            other => other.into(),
        })
    }

    /// Gives the sockets of each group their slots, and has `steer_udp` choose in the group.
    pub(super) fn register_datagrams(
        &self,
        id: GenerationId,
        cgroup: &Cgroup,
        members: &[Vec<Waiting>],
    ) -> Result<Vec<Registered>, CheckError> {
        let groups = self.path.datagram_groups().iter().zip(members);
        groups
            .map(|(group, members)| {
                let sockets = listeners::take(cgroup, members);
                Ok(self.path.register_datagrams(group, id, &sockets)?)
            })
            .collect()
    }

    /// What a drain waits for: open connections, and flows.
    pub(super) fn clients(&self, id: GenerationId) -> u64 {
        self.path.live(Some(id)) + self.flows(id)
    }

    /// The generation's flows, as of a moment ago.
    pub(super) fn flows(&self, id: GenerationId) -> u64 {
        self.path.flows().map_or(0, |flows| flows.of(id))
    }

    /// Waits until all flows of the generation are idle, or for the drain's deadline. No flow stays
    /// with it from then on.
    pub(super) async fn flows_leave(self: &Arc<Self>, id: GenerationId) {
        let Some(flows) = self.path.flows() else {
            return;
        };
        let deadline = {
            let books = self.books.lock().await;
            books.get(id).and_then(|g| Some(g.drain.as_ref()?.deadline))
        };
        let Some(deadline) = deadline else {
            return;
        };
        let mut pace = Pace::until(deadline);
        while flows.of(id) > 0 || flows.close_if_none(id) > 0 {
            if !self.look_again(&mut pace).await {
                let left = flows.of(id);
                flows.close(id);
                tracing::warn!(
                    service = self.name(),
                    left,
                    "flows are led to the active generation: the drain's deadline is over"
                );
                break;
            }
        }
        // It may be frozen next.
        self.read_up(id).await;
    }

    /// No flow stays with a generation that is told to end; what has come for it, it may still read.
    pub(super) async fn last_datagrams(&self, id: GenerationId, cgroup: &Cgroup) {
        let Some(flows) = self.path.flows() else {
            return;
        };
        flows.close(id);
        for group in self.path.datagram_groups() {
            group.unregister(id);
        }
        self.await_read(cgroup).await;
    }

    async fn read_up(&self, id: GenerationId) {
        let cgroup = self.books.lock().await.get(id).map(|g| g.cgroup.clone());
        if let Some(cgroup) = cgroup {
            self.await_read(&cgroup).await;
        }
    }

    async fn await_read(&self, cgroup: &Cgroup) {
        let mut pace = Pace::until(Deadline::after(UNREAD));
        while has_unread(cgroup) && self.look_again(&mut pace).await {}
    }

    /// Flows may stay with the generation again.
    pub(super) fn take_flows(&self, id: GenerationId) {
        if let Some(flows) = self.path.flows() {
            flows.reopen(id);
        }
    }
}

/// Whether the sockets there are IPv6 only, but for those in `without`; `None` if there are none.
fn found_there(
    address: std::net::SocketAddr,
    all: &[Waiting],
    without: &BTreeSet<u64>,
) -> Option<bool> {
    all.iter()
        .find(|w| w.address == address && !without.contains(&w.cookie))
        .map(|w| w.v6only)
}

/// Whether datagrams wait that the generation has not read. One that is frozen or hangs does not.
fn has_unread(cgroup: &Cgroup) -> bool {
    let found = listeners::find(cgroup, Protocol::Udp).unwrap_or_default();
    found.iter().any(|socket| socket.queue > 0)
}
