//! Generations by their names, and what is asked of them before a promote.

use std::sync::Arc;

use super::{
    CheckError, Context, Reporter, Service, VerbError, books::Books, candidate::still_alive,
    freeze, shared::SharedState, slots::register,
};
use crate::{api::wire::DeployRequest, rollout::GenerationState, sys::cgroup::Cgroup};
use lb_common::GenerationId;

/// The id of the generation with this name, for who has the lock.
pub(super) fn named(
    context: &Context,
    books: &Books,
    name: &str,
) -> Result<GenerationId, VerbError> {
    books
        .by_name(name)
        .map(|g| g.id)
        .ok_or_else(|| VerbError::UnknownGeneration {
            service: context.name().to_owned(),
            name: name.escape_debug().to_string(),
            known: books.names(),
        })
}

/// Where the generation's connections and listeners are found.
pub(super) async fn own_cgroup(state: &SharedState, id: GenerationId) -> Option<Cgroup> {
    state.lock().await.get(id)?.own_cgroup()
}

impl Service {
    /// The id of the generation with this name.
    pub(super) async fn find(&self, name: &str) -> Result<GenerationId, VerbError> {
        named(self, &*self.state.lock().await, name)
    }

    /// What was true when it became ready must be true now.
    pub(super) async fn check_again(&self, id: GenerationId) -> Result<(), VerbError> {
        let checked = async {
            {
                let mut books = self.state.lock().await;
                still_alive(&books, id)?;
                if let Some(generation) = books.get(id) {
                    freeze::thaw(self, &generation.cgroup);
                }
                register(self, &mut books, id)?;
            }
            self.answers(id).await
        };
        match checked.await {
            Ok(()) => Ok(()),
            Err(error) => {
                self.freeze_again(id).await;
                Err(self.not_ready(id, &error).await)
            }
        }
    }

    /// One that stands by, was thawed to be looked at, and goes on standing by.
    async fn freeze_again(&self, id: GenerationId) {
        let mut books = self.state.lock().await;
        let stands_by = books
            .get(id)
            .is_some_and(|g| g.state == GenerationState::Standby);
        if stands_by {
            freeze::freeze(self, &mut books, id);
        }
    }

    /// A check that failed, as the answer to a verb.
    pub(super) async fn not_ready(&self, id: GenerationId, error: &CheckError) -> VerbError {
        VerbError::NotReady {
            generation: self.state.look(|books| books.name_of(id)).await,
            check: error.to_string(),
        }
    }

    /// Starts the command of a generation that has ended again, under its name.
    pub(super) async fn revive(
        self: &Arc<Self>,
        id: GenerationId,
        reporter: &Reporter,
    ) -> Result<GenerationId, VerbError> {
        if let Some(id) = self.revive_outside(id, reporter).await? {
            return Ok(id);
        }
        let request = {
            let books = self.state.lock().await;
            let generation = books.get(id).ok_or_else(|| {
                VerbError::NothingBefore("the generation before is forgotten".to_owned())
            })?;
            DeployRequest {
                generation: Some(generation.name.clone()),
                command: generation.command.clone(),
                cwd: generation.cwd.clone(),
                env: generation.env.clone(),
                timeout_ms: None,
            }
        };
        self.end(id).await;
        let name = request.generation.clone().unwrap_or_default();
        // Its name is free for whom a rollback leads to.
        let previous = self
            .state
            .change(|books| books.steering.set_previous(Some(id)))
            .await;
        let started = self.deploy_again(request, reporter, true).await;
        if started.is_err() {
            self.state
                .change(|books| books.steering.set_previous(previous))
                .await;
        }
        started?;
        self.find(&name).await
    }
}
