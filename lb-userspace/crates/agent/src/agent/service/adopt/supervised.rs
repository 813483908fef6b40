//! Generations that the agent did not start: what is done about them when an agent starts.

use std::{collections::HashSet, sync::Arc, time::Duration};

use lb_common::GenerationId;

use super::{
    super::{
        broken::kept_up,
        registry::{Generation, Registry},
        steering::Steering,
    },
    Adoptions,
};
use crate::{
    generation::listeners,
    rollout::GenerationState,
    store::{Ledger, Origin, Remembered},
    sys::{
        cgroup::Cgroup,
        established, process,
        sock_diag::{DumpError, Protocol},
    },
};

/// How often the connections are looked at that were open before an adoption, while nobody waits
/// for their end.
const SELDOM: Duration = Duration::from_secs(1);
/// The same while their generation is drained.
const OFTEN: Duration = Duration::from_millis(20);

impl Adoptions {
    /// Before the parking listeners are opened again: has the groups of an adopted generation
    /// steered, through its own listeners, so that no client is hashed to the parking ones.
    pub(in crate::agent::service) async fn steer_adopted(&self, ledger: &Ledger) {
        if ledger.boot != process::boot_id() {
            return;
        }
        let mut registry = self.state.lock().await;
        for remembered in &ledger.generations {
            if let Some(cgroup) = adopted_cgroup(remembered) {
                self.steer_through(registry.steering_mut(), remembered, &cgroup);
            }
        }
    }

    fn steer_through(&self, steering: &mut Steering, remembered: &Remembered, cgroup: &Cgroup) {
        if self.path.word().active.is_none()
            && remembered.state == GenerationState::Active
            && let Some(id) = GenerationId::new(remembered.id)
        {
            steering.adopt(id);
        }
        let found = listeners::find(&self.netns, cgroup, Protocol::Tcp).unwrap_or_default();
        for group in self.path.groups() {
            let here = found.iter().filter(|w| w.address == group.address());
            let here: Vec<_> = here.cloned().collect();
            let attached = listeners::take(cgroup, &here)
                .into_values()
                .next()
                .map(|socket| group.attach(socket));
            if let Some(Err(error)) = attached {
                tracing::error!(
                    %error,
                    address = %group.address(),
                    "failed to attach the steering program"
                );
            }
        }
    }

    /// Takes back what an adoption did that an agent died in the middle of.
    pub(in crate::agent::service) fn forget_adoption(&self, id: GenerationId) {
        for group in self.path.all_groups() {
            group.unregister(id);
        }
        self.path.stop_counting(id);
    }

    /// Goes on with what an earlier agent followed.
    pub(in crate::agent::service) fn resume_outside(
        self: &Arc<Self>,
        registry: &mut Registry,
        id: GenerationId,
    ) {
        self.watch_again(registry, id);
        let earlier = registry.get(id).map_or(0, |g| g.provenance().earlier.len());
        if earlier > 0 {
            self.path.set_earlier(id, earlier as u64);
            self.follow_in_background(id);
        }
    }

    /// A former agent may have had fewer programs see what the processes of a cgroup outside the service's do.
    fn watch_again(&self, registry: &Registry, id: GenerationId) {
        let cgroup = registry.get(id).map(Generation::cgroup);
        let outside = cgroup.filter(|cgroup| !cgroup.path().starts_with(self.cgroup.path()));
        let Some(cgroup) = outside else {
            return;
        };
        let watched = self.path.join_outside(id, cgroup.path());
        if let Err(error) = watched.and_then(|()| self.allow(cgroup)) {
            tracing::error!(%error, "failed to have the binds of an adopted server looked at again");
        }
    }

    /// Counts down the connections that were open before the generation was adopted, for `track`
    /// does not know them.
    pub(super) fn follow_in_background(self: &Arc<Self>, id: GenerationId) {
        let adoptions = Arc::clone(self);
        tokio::spawn(async move {
            kept_up("counting earlier connections", || {
                adoptions.follow_earlier(id)
            })
            .await;
        });
    }

    async fn follow_earlier(&self, id: GenerationId) {
        loop {
            let Ok(open) = self.open_cookies() else {
                return;
            };
            let hurried = {
                let mut registry = self.state.lock().await;
                let Some(generation) = registry.get_mut(id) else {
                    return;
                };
                let (before, left) = generation.keep_earlier(|cookie| open.contains(cookie));
                self.path.set_earlier(id, left as u64);
                let hurried = is_hurried(generation.state());
                if left == 0 {
                    self.state.settle(&registry);
                    return;
                }
                if left < before {
                    self.state.ring();
                }
                hurried
            };
            if hurried {
                let _woken = tokio::time::timeout(OFTEN, self.state.changed()).await;
            } else {
                let _woken = tokio::time::timeout(SELDOM, self.hurried(id)).await;
            }
        }
    }

    /// All open connections at the service's ports.
    fn open_cookies(&self) -> Result<HashSet<u64>, DumpError> {
        let mut open = HashSet::new();
        for port in self.ports().ports {
            let here = established::at_port(&self.netns, port)?;
            open.extend(here.into_iter().map(|connection| connection.cookie));
        }
        if self.ports().transparent {
            let elsewhere = established::transparent(&self.netns)?;
            open.extend(
                elsewhere
                    .into_iter()
                    .map(|(connection, _)| connection.cookie),
            );
        }
        Ok(open)
    }

    async fn hurried(&self, id: GenerationId) {
        loop {
            let changed = self.state.changed();
            let state = self
                .state
                .look(|registry| registry.get(id).map(Generation::state))
                .await;
            if state.is_none_or(is_hurried) {
                return;
            }
            changed.await;
        }
    }
}

fn is_hurried(state: GenerationState) -> bool {
    matches!(state, GenerationState::Draining | GenerationState::Stopping)
}

/// The cgroup of a remembered generation that was adopted and may still run.
fn adopted_cgroup(remembered: &Remembered) -> Option<Cgroup> {
    let provenance = &remembered.provenance;
    let adopted = provenance.origin == Origin::Adopted && remembered.was_ready;
    let main_runs = remembered
        .main
        .is_some_and(|(pid, start)| process::start_time(pid) == Some(start));
    let path = provenance.cgroup.clone().filter(|_| adopted && main_runs)?;
    remembered.state.is_live().then(|| Cgroup::foreign(path))
}
