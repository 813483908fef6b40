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

use futures_util::FutureExt as _;
use lb_common::GenerationId;
use tokio::time::MissedTickBehavior;

use super::{
    CheckError, Context, Unbound,
    ending::Endings,
    hung,
    pace::Pace,
    processes::gone,
    registry::{Generation, Registry},
    shared::SharedState,
    slots::{kept, untaken_of},
};
use crate::{
    clock::{self, Deadline},
    generation::{
        fit::{self, Misfit},
        listeners,
        standstill::Standstill,
    },
    rollout::{GenerationState, recipe::Effect},
    sys::{
        cgroup::Cgroup,
        listener::GroupKey,
        sock_diag::{self, DumpError, Protocol, Waiting},
    },
};

/// A server's UDP sockets by group, or the first misfit.
pub(super) type Fit = Result<Vec<Vec<Waiting>>, Misfit>;

/// Longest wait for a server that gets no datagram any more to read those it has.
const UNREAD: Duration = Duration::from_secs(1);
/// How often it is looked what a draining generation has not read.
const UNREAD_LOOKS: Duration = Duration::from_millis(50);
/// Longest time for a server to say goodbye to its flows.
const GOODBYE: Duration = Duration::from_secs(5);

/// What the operator of a service like DNS may do about drains that wait for nobody.
fn advice(brief: u64, left: u64) -> String {
    if brief == 0 || brief < left / 2 {
        return String::new();
    }
    format!(
        "; {brief} of them were single exchanges, such as DNS queries, for which a drain waits in \
         vain: if any generation may answer any datagram, set flow = \"none\" for the service"
    )
}

/// Gives each of the generation's UDP sockets a slot, and has `steer_udp` choose in their groups.
/// Cheap when nothing changed.
pub(super) fn give_datagram_slots(
    context: &Context,
    generation: &mut Generation,
) -> Result<(), CheckError> {
    let fit = datagram_fit(context, generation.cgroup())?;
    let members = fit.map_err(|misfit| match misfit {
        Misfit::Missing { address, found, .. } => {
            CheckError::NoDatagrams(Unbound::new(address, found))
        }
        other => other.into(),
    })?;
    let cookies: BTreeSet<u64> = members.iter().flatten().map(|w| w.cookie).collect();
    if cookies.iter().eq(generation.slots().datagrams().keys()) {
        return Ok(());
    }
    let mut steered = BTreeMap::new();
    let mut untaken = None;
    for (group, members) in context.path.datagram_groups().iter().zip(&members) {
        let sockets = listeners::take(generation.cgroup(), members);
        if let Some(error) = untaken_of(group.address(), members, &sockets) {
            untaken = Some(error);
            let kept = kept(members, generation.slots().datagrams());
            if !kept.is_empty() {
                steered.extend(kept);
                continue;
            }
        }
        let registered = context
            .path
            .register_datagrams(group, generation.id(), &sockets)?;
        if !registered.left_out.is_empty() {
            tracing::error!(
                service = context.name(),
                generation = generation.name(),
                address = %group.address(),
                left_out = registered.left_out.len(),
                "no slot left for UDP sockets; they get no datagrams"
            );
        }
        steered.extend(registered.steered);
    }
    generation.slots_mut().give_datagrams(steered);
    untaken.map_or(Ok(()), Err)
}

/// The UDP sockets in each group of the server in this cgroup, or why they do not fit.
pub(super) fn datagram_fit(context: &Context, cgroup: &Cgroup) -> Result<Fit, DumpError> {
    let Some(datagrams) = &context.config.datagrams else {
        return Ok(Ok(Vec::new()));
    };
    let all = sock_diag::waiting(&context.netns, Protocol::Udp)?;
    let found = listeners::find(&context.netns, cgroup, Protocol::Udp)?;
    let own = |socket: &Waiting| found.iter().any(|w| w.cookie == socket.cookie);
    let kind = |address: SocketAddr| {
        let mut here = all.iter().filter(|w| w.address == address);
        let mut others = here.clone().filter(|w| !own(w));
        others.next().or_else(|| here.next()).map(|w| w.v6only)
    };
    let group_keys: Vec<GroupKey> = datagrams
        .listen
        .iter()
        .map(|&address| GroupKey {
            address,
            v6only: kind(address).unwrap_or_default(),
            uid: context.config.identity.uid,
        })
        .collect();
    Ok(fit::fit(&group_keys, &found))
}

/// The flows of a service's generations.
#[derive(Debug)]
pub(super) struct Datagrams {
    context: Arc<Context>,
    state: SharedState,
    endings: Endings,
}

context_of!(Datagrams);

impl Datagrams {
    /// Those of a service.
    pub(super) fn new(context: &Arc<Context>, state: &SharedState, endings: &Endings) -> Self {
        Self {
            context: Arc::clone(context),
            state: state.clone(),
            endings: endings.clone(),
        }
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
    /// with it from then on. One that reads nothing for `hung_after` is hung: its flows are led to
    /// the active generation at once. Says so then.
    pub(super) async fn flows_leave(&self, id: GenerationId) -> Option<String> {
        let flows = self.path.flows()?;
        let (deadline, cgroup) = {
            let registry = self.state.lock().await;
            let generation = registry.get(id)?;
            (generation.drain()?.deadline(), generation.cgroup().clone())
        };
        let hung_after = self.config.drain.hung_after;
        let mut still = Standstill::default();
        let mut looks = tokio::time::interval(UNREAD_LOOKS);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let goodbye = self.goodbye(id, deadline).await;
        let mut pace = Pace::until(goodbye.unwrap_or(deadline));
        // A rollback may take it back at any moment.
        let leaves = || self.path.word().active != Some(id);
        while flows.of(id) > 0 || !flows.close_if_none(id, leaves) {
            if looks.tick().now_or_never().is_some() {
                let unread = hung::unread(self, &cgroup).unwrap_or_default();
                still.datagrams(clock::since_boot(), unread);
            }
            if let Some(stands) = still.lasts(clock::since_boot(), hung_after)
                && leaves()
            {
                let left = flows.of(id);
                flows.close(id, leaves);
                return Some(format!(
                    "it hangs: it read nothing for {}, and {} bytes wait; {left} flows were moved \
                     to the active generation",
                    humantime::format_duration(hung_after),
                    stands.waiting
                ));
            }
            if !self.state.look_again(&mut pace).await {
                if goodbye.is_some() {
                    return None; // it is told now, and has until the deadline
                }
                let left = flows.of(id);
                let brief = u64::try_from(flows.of_one_exchange(id)).unwrap_or(u64::MAX);
                if flows.close(id, leaves) {
                    tracing::warn!(
                        service = self.name(),
                        left,
                        "moved flows to the active generation: the deadline of the drain has \
                         passed{}",
                        advice(brief, left)
                    );
                }
                break;
            }
        }
        // It may be frozen next.
        self.read_up(id).await;
        None
    }

    /// When a server is told whose flows are still there, so that it can say goodbye to them: some
    /// time before the deadline, if it catches its signal and no connection is cut by that.
    async fn goodbye(&self, id: GenerationId, deadline: Deadline) -> Option<Deadline> {
        let recipe = self.endings.judge(self, &self.state, id).await?.recipe;
        let harmless = recipe.effect == Effect::Finishes || self.path.live(Some(id)) == 0;
        let before = GOODBYE.min(self.config.drain.deadline / 4);
        let left = deadline.left()?.saturating_sub(before);
        (recipe.caught && harmless).then(|| Deadline::after(left))
    }

    /// Flows stay with a generation that was told to end until it has said goodbye.
    pub(super) async fn say_goodbye(&self, id: GenerationId, cgroup: &Cgroup, deadline: Deadline) {
        let until = deadline.min(Deadline::after(GOODBYE));
        let ended = tokio::time::timeout_at(until.instant(), gone(&self.state, id, cgroup)).await;
        if ended.is_err() {
            tracing::debug!(
                service = self.name(),
                "a server did not end in time; moving its flows to another generation"
            );
        }
        self.last_datagrams(id, cgroup).await;
    }

    /// No flow stays with a generation that is told to end; what has come for it, it may still read.
    pub(super) async fn last_datagrams(&self, id: GenerationId, cgroup: &Cgroup) {
        let Some(flows) = self.path.flows() else {
            return;
        };
        flows.close(id, || true);
        for group in self.path.datagram_groups() {
            group.unregister(id);
        }
        self.await_read(cgroup).await;
    }

    async fn read_up(&self, id: GenerationId) {
        let cgroup = self
            .state
            .look(|registry| registry.get(id).map(|g| g.cgroup().clone()))
            .await;
        if let Some(cgroup) = cgroup {
            self.await_read(&cgroup).await;
        }
    }

    async fn await_read(&self, cgroup: &Cgroup) {
        let mut pace = Pace::until(Deadline::after(UNREAD));
        while self.has_unread(cgroup) && self.state.look_again(&mut pace).await {}
    }

    /// Whether datagrams wait that the generation has not read. One that is frozen or hangs does
    /// not.
    fn has_unread(&self, cgroup: &Cgroup) -> bool {
        let found = listeners::find(&self.netns, cgroup, Protocol::Udp).unwrap_or_default();
        found.iter().any(|socket| socket.queue > 0)
    }

    /// No flow stays with generations whose drain is over; flows stay with every other one.
    pub(super) fn restore_flows(&self, registry: &Registry) {
        let Some(flows) = self.path.flows() else {
            return;
        };
        let is_over = |generation: &&Generation| match generation.state() {
            GenerationState::Standby => true,
            // It may still say goodbye to them.
            GenerationState::Stopping => flows.is_closed(generation.id()),
            _ => false,
        };
        let over = registry.all().filter(is_over);
        flows.close_only(over.map(Generation::id));
    }

    /// Flows may stay with the generation again.
    pub(super) fn take_flows(&self, id: GenerationId) {
        if let Some(flows) = self.path.flows() {
            flows.reopen(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_is_for_services_of_queries() {
        assert!(advice(2_998, 3_000).contains("flow = \"none\""));
        assert_eq!(advice(3, 3_000), "");
        assert_eq!(advice(0, 0), "");
    }
}
