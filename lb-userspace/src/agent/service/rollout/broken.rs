//! A rollout that broke is over, and its service can be operated.

use std::time::Duration;

use super::{
    super::{
        Service, VerbError,
        broken::{Broken, unbroken},
    },
    plan::Plan,
};
use crate::{
    rollout::GenerationState,
    store::journal::{End, Outcome},
};

/// How long the journal gets for the end of a rollout that broke.
const PATIENCE: Duration = Duration::from_secs(1);

impl Service {
    /// Whatever became of a rollout, nobody is starting its candidate any more.
    pub(super) async fn leave_nothing_starting(&self, plan: &Plan) {
        let Some(to) = plan.to().filter(|_| plan.start.is_some()) else {
            return;
        };
        let mut books = self.state.lock().await;
        if books.get(to).map(|g| g.state) != Some(GenerationState::Starting) {
            return;
        }
        let name = books.name_of(to);
        books.deploying = books.deploying.take().filter(|other| *other != name);
        self.discard(&mut books, to, plan.reason.clone().unwrap_or_default());
    }

    /// What carries a rollout out broke beyond what is undone in order: who is active is what the
    /// word says, and the rollout is over.
    pub(super) async fn rollout_broke(&self, token: u64, broken: Broken) -> VerbError {
        let (id, plan) = self
            .state
            .change(|books| {
                let rollout = books.rollout_of(token);
                let known = rollout.map(|rollout| (rollout.id, rollout.plan.clone()));
                if known.is_some() {
                    books.rollout = None;
                }
                known.map_or((None, None), |(id, plan)| (id, Some(plan)))
            })
            .await;
        let what = id.map_or_else(|| "a rollout".to_owned(), |id| id.to_string());
        let error = broken.of_verb(what);
        tracing::error!(service = self.name(), %error, "a bug aborted a rollout");
        if let Some(plan) = &plan {
            self.leave_nothing_starting(plan).await;
        }
        if let Some((id, plan)) = id.zip(plan) {
            let is_active = self.path.word().active == plan.to();
            let end = End {
                outcome: if is_active {
                    Outcome::Done
                } else {
                    Outcome::RolledBack
                },
                reason: Some(error.summary()),
            };
            // A journal that does not answer finds it unfinished when the next agent starts.
            let written = tokio::time::timeout(PATIENCE, self.journal.finish(id, end));
            if !matches!(unbroken(written).await, Ok(Ok(Ok(())))) {
                tracing::error!(
                    rollout = %id,
                    "failed to record the end of the rollout in the journal"
                );
            }
        }
        self.state.ring();
        error
    }
}
