//! The end of a service: everything it has is ended, and what it left on the host is removed.

use std::{sync::Arc, time::Duration};

use lb_common::GenerationId;

use super::{
    Context, VerbError,
    checks::exec::hooks_cgroup,
    lives::Lives,
    pace::Pace,
    parking::Parking,
    registry::{Generation, Registry},
    shared::SharedState,
};
use crate::{
    clock::Deadline,
    generation::{hook, life},
    rollout::GenerationState,
};

/// Longest wait of `down` for a deploy or a rollout, its hooks included, to have ended.
const CALLED_OFF: Duration = Duration::from_secs(30);

/// How long killed processes may take to be gone.
const GONE: Duration = Duration::from_secs(5);

/// Ends a service.
#[derive(Debug)]
pub(super) struct Down {
    context: Arc<Context>,
    state: SharedState,
    parking: Arc<Parking>,
    lives: Arc<Lives>,
}

context_of!(Down);

impl Down {
    /// That of a service.
    pub(super) fn new(
        context: &Arc<Context>,
        state: &SharedState,
        parking: &Arc<Parking>,
        lives: &Arc<Lives>,
    ) -> Self {
        Self {
            context: Arc::clone(context),
            state: state.clone(),
            parking: Arc::clone(parking),
            lives: Arc::clone(lives),
        }
    }

    /// Ends everything the service has, and removes what it left on the host.
    ///
    /// # Errors
    ///
    /// When the pins cannot be removed. Says what serves on all the same.
    pub(super) async fn down(&self) -> Result<Vec<String>, VerbError> {
        let mut left = Vec::new();
        self.state
            .change(|registry| {
                // Nobody takes over: the active one is ended too, and the keeper is not started again.
                registry.go_down();
                registry.steering_mut().set_previous(None);
                registry.steering_mut().lead_nowhere();
            })
            .await;
        self.call_everything_off().await;
        loop {
            let living: Vec<GenerationId> = self
                .state
                .look(|registry| {
                    let living = registry.living();
                    living.map(Generation::id).collect()
                })
                .await;
            if living.is_empty() {
                break;
            }
            let all = living.iter().map(|&id| self.lives.end(id));
            futures_util::future::join_all(all).await;
            let registry = self.state.lock().await;
            let ended = living.iter().filter_map(|&id| registry.get(id));
            left.extend(ended.filter_map(|ended| {
                let left = ended.end().left()?;
                Some(format!("{}: {left}", ended.name()))
            }));
        }
        if let Err(error) = self.parking.keeper().quit().await {
            tracing::warn!(%error, "failed to end the keeper");
        }
        self.path.pins().remove()?;
        let cgroup = &self.cgroup;
        let gone = tokio::time::timeout(GONE, life::emptied(cgroup)).await;
        let removed = match gone {
            Ok(Ok(())) => cgroup.remove(),
            Ok(Err(error)) => Err(error),
            Err(_elapsed) => Err(std::io::Error::other("processes are left in it")),
        };
        if let Err(error) = removed {
            left.push(format!(
                "the cgroup {}: {error}; end what runs in it, and remove it",
                cgroup.path().display()
            ));
            tracing::warn!(
                %error,
                cgroup = %cgroup.path().display(),
                "failed to remove the cgroup of the service"
            );
        }
        self.state.change(Registry::be_gone).await;
        if let Err(error) = self.state.ledger().remove().await {
            left.push(format!(
                "{error}; remove it before the service is started again, or its generations are \
                 listed as ended"
            ));
            tracing::warn!(%error, "failed to remove the ledger");
        }
        Ok(left)
    }

    /// Has a deploy or a rollout that goes on end, so that nothing is started any more.
    async fn call_everything_off(&self) {
        let starting = self
            .state
            .look(|registry| {
                if let Some(rollout) = registry.rollout() {
                    rollout.undo("the service is shutting down");
                }
                let starting = registry
                    .all()
                    .filter(|g| g.state() == GenerationState::Starting);
                starting.map(Generation::id).collect::<Vec<_>>()
            })
            .await;
        futures_util::future::join_all(starting.into_iter().map(|id| self.lives.end(id))).await;
        let mut pace = Pace::until(Deadline::after(CALLED_OFF));
        while self.state.look_again(&mut pace).await {
            if self.is_at_rest().await {
                return;
            }
        }
        tracing::error!(
            service = self.name(),
            "a rollout did not end in time; killing its hooks"
        );
        let mut pace = Pace::until(Deadline::after(GONE));
        while !self.is_at_rest().await {
            hook::sweep(&hooks_cgroup(&self.cgroup)).await;
            if !self.state.look_again(&mut pace).await {
                return;
            }
        }
    }

    /// Whether nothing is being deployed, and no rollout is before its drain.
    async fn is_at_rest(&self) -> bool {
        let registry = self.state.lock().await;
        registry.deploying().is_none() && registry.rollout().is_none()
    }
}
