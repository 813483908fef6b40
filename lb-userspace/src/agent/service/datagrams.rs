//! The UDP side of a service: its generations' sockets, and the flows a drain waits for.
//!
//! Datagrams have no queue that could be moved and no connection that ends. A generation is drained of
//! them when each of its flows has been idle for `flow_idle`, or at the drain's deadline: flows that
//! are left then go where new ones do.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use lb_common::GenerationId;

use super::{CheckError, Pace, Service, books::Generation};
use crate::{
    clock::Deadline,
    generation::{
        fit::{self, Misfit},
        listeners,
    },
    sys::{
        cgroup::Cgroup,
        listener::Twin,
        sock_diag::{self, DumpError, Protocol, Waiting},
    },
};

/// A server's UDP sockets by group, or the first misfit.
pub(super) type Fit = Result<Vec<Vec<Waiting>>, Misfit>;

/// Longest wait for a server that gets no datagram any more to read those it has.
const UNREAD: Duration = Duration::from_secs(1);

impl Service {
    /// Gives each of the generation's UDP sockets a slot, and has `steer_udp` choose in their groups.
    /// Cheap when nothing changed.
    pub(super) fn give_datagram_slots(
        &self,
        generation: &mut Generation,
    ) -> Result<(), CheckError> {
        let fit = self.datagram_fit(&generation.cgroup)?;
        let members = fit.map_err(|misfit| match misfit {
            Misfit::Missing { address, found, .. } => CheckError::NoDatagrams {
                address,
                found: found.join(", "),
            },
            other => other.into(),
        })?;
        let cookies: BTreeSet<u64> = members.iter().flatten().map(|w| w.cookie).collect();
        if cookies.iter().eq(generation.datagrams.keys()) {
            return Ok(());
        }
        let mut steered = BTreeMap::new();
        for (group, members) in self.path.datagram_groups().iter().zip(&members) {
            let sockets = listeners::take(&generation.cgroup, members);
            let registered = self
                .path
                .register_datagrams(group, generation.id, &sockets)?;
            if !registered.left_out.is_empty() {
                tracing::error!(
                    service = self.name(),
                    generation = generation.name,
                    address = %group.address(),
                    left_out = registered.left_out.len(),
                    "UDP sockets have no slot and get no datagram"
                );
            }
            steered.extend(registered.steered);
        }
        generation.datagrams = steered;
        Ok(())
    }

    /// The UDP sockets in each group of the server in this cgroup, or why they do not fit.
    pub(super) fn datagram_fit(&self, cgroup: &Cgroup) -> Result<Fit, DumpError> {
        let Some(datagrams) = &self.config.datagrams else {
            return Ok(Ok(Vec::new()));
        };
        let all = sock_diag::waiting(&self.netns, Protocol::Udp)?;
        let found = listeners::find(&self.netns, cgroup, Protocol::Udp)?;
        let own = |socket: &Waiting| found.iter().any(|w| w.cookie == socket.cookie);
        let kind = |address: SocketAddr| {
            let mut here = all.iter().filter(|w| w.address == address);
            let mut others = here.clone().filter(|w| !own(w));
            others.next().or_else(|| here.next()).map(|w| w.v6only)
        };
        let twins: Vec<Twin> = datagrams
            .listen
            .iter()
            .map(|&address| Twin {
                address,
                v6only: kind(address).unwrap_or_default(),
                uid: self.config.identity.uid,
            })
            .collect();
        Ok(fit::fit(&twins, &found))
    }

    /// What tells a server of the generation which ids to give to QUIC connections.
    pub(super) fn quic_server_id(&self, id: GenerationId) -> Option<(String, String)> {
        self.config.datagrams.as_ref()?.server_id(id)
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
        while self.has_unread(cgroup) && self.look_again(&mut pace).await {}
    }

    /// Whether datagrams wait that the generation has not read. One that is frozen or hangs does
    /// not.
    fn has_unread(&self, cgroup: &Cgroup) -> bool {
        let found = listeners::find(&self.netns, cgroup, Protocol::Udp).unwrap_or_default();
        found.iter().any(|socket| socket.queue > 0)
    }

    /// Flows may stay with the generation again.
    pub(super) fn take_flows(&self, id: GenerationId) {
        if let Some(flows) = self.path.flows() {
            flows.reopen(id);
        }
    }
}
