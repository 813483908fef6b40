//! Tasks that break: a defect in one of them must not keep its service from being operated.
//!
//! A panic ends the task it happens in and nothing else, and leaves what that task was to set right
//! as it is. So whoever begins such a task hears of it here, and sets it right.

use std::{any::Any, future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use lb_common::GenerationId;

use super::{Service, VerbError};
use crate::{clock::Deadline, rollout::GenerationState};

/// How often what has broken is begun again at most.
const AGAIN: Duration = Duration::from_secs(1);
/// How long a generation that nobody ends in order any more has to end by itself.
const BY_ITSELF: Duration = Duration::from_secs(5);

/// What a task said when it broke.
#[derive(Debug)]
pub(super) struct Broken(String);

impl Broken {
    fn of(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Self(text.unwrap_or_else(|| "no reason given".to_owned()))
    }

    /// As an answer: `what` broke.
    pub(super) fn of_verb(self, what: impl Into<String>) -> VerbError {
        VerbError::Broke {
            what: what.into(),
            reason: self.0,
        }
    }
}

/// The work's result, also if it panics. What it has changed by then stays.
pub(super) async fn unbroken<T>(work: impl Future<Output = T> + Send) -> Result<T, Broken> {
    let result = AssertUnwindSafe(work).catch_unwind().await;
    result.map_err(|panic| Broken::of(&*panic))
}

/// Does work that is to go on for as long as the service: again, if it breaks.
pub(super) async fn kept_up<T, F>(what: &'static str, work: impl Fn() -> F + Send) -> T
where
    F: Future<Output = T> + Send,
{
    let mut turns = tokio::time::interval(AGAIN);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        match unbroken(work()).await {
            Ok(result) => return result,
            Err(Broken(reason)) => {
                tracing::error!(
                    what,
                    reason,
                    "a bug aborted a task of the agent; restarting the task"
                );
            }
        }
    }
}

impl Service {
    /// A deploy broke: its candidate is ended, and another one can be deployed.
    pub(super) async fn deploy_broke(&self, id: GenerationId, broken: Broken) -> VerbError {
        let mut books = self.state.lock().await;
        let name = books.name_of(id);
        let error = broken.of_verb(format!("the deploy of {name}"));
        tracing::error!(service = self.name(), %error, "a bug aborted a deploy");
        books.deploying = books.deploying.take().filter(|other| *other != name);
        if books.get(id).map(|g| g.state) == Some(GenerationState::Starting) {
            self.discard(&mut books, id, error.summary());
        }
        error
    }

    /// A drain broke: whoever is still there is told to end, and has until the deadline.
    pub(super) async fn drain_broke(self: &Arc<Self>, id: GenerationId, broken: Broken) {
        let mut books = self.state.lock().await;
        let name = books.name_of(id);
        let error = broken.of_verb(format!("the drain of {name}"));
        tracing::error!(service = self.name(), %error, "a bug aborted a drain");
        if let Some(generation) = books.get_mut(id)
            && generation.state == GenerationState::Draining
        {
            generation.reason = Some(error.summary());
            self.stop_in_background(&mut books, id);
        }
        self.state.settle(&books);
    }

    /// What was to end a generation in order broke: it gets its signal all the same, and what is
    /// left at the deadline is killed.
    pub(super) async fn end_broke(&self, id: GenerationId, broken: Broken) {
        let (cgroup, deadline, error) = {
            let books = self.state.lock().await;
            let Some(generation) = books.get(id) else {
                return;
            };
            let error = broken.of_verb(format!("the end of {}", generation.name));
            let drain = generation.drain.as_ref();
            let deadline = drain.map_or_else(|| Deadline::after(BY_ITSELF), |drain| drain.deadline);
            (generation.cgroup.clone(), deadline, error)
        };
        tracing::error!(service = self.name(), %error, "a bug aborted the end of a generation");
        // Unless that is what broke: the deadline ends it then.
        let _told = unbroken(async {
            if let Some(judged) = self.endings.judge(self, &self.state, id).await {
                self.tell_to_end(id, &judged).await;
            }
        })
        .await;
        let gone = self.gone(id, &cgroup);
        let ended = tokio::time::timeout_at(deadline.instant(), gone).await;
        if ended.is_err()
            && let Err(error) = self.kill_rest(id, &cgroup).await
        {
            tracing::error!(
                %error,
                cgroup = %cgroup.path().display(),
                "failed to kill the processes of a generation"
            );
        }
        self.await_gone(id, &cgroup).await;
        let mut books = self.state.lock().await;
        self.retire_from_kernel(&mut books, id);
        if let Some(generation) = books.get_mut(id)
            && generation.state == GenerationState::Stopping
        {
            generation.undrain();
            // A candidate that a rollout got rid of makes room for the next of its name.
            let state = match generation.failed.take() {
                Some(_why) => GenerationState::Failed,
                None => GenerationState::Stopped,
            };
            generation.enter(state, Some(error.summary()));
        }
        self.state.settle(&books);
    }

    /// It was not found out whether a process that somebody else supervises serves.
    pub(super) async fn proof_broke(&self, id: GenerationId, broken: Broken) {
        let mut books = self.state.lock().await;
        let name = books.name_of(id);
        let error = broken.of_verb(format!("the check of {name}"));
        tracing::error!(service = self.name(), %error, "a bug aborted the check of a generation");
        if let Some(generation) = books.get_mut(id)
            && generation.state == GenerationState::Starting
        {
            generation.enter(GenerationState::Failed, Some(error.summary()));
            self.retire_from_kernel(&mut books, id);
        }
        self.state.settle(&books);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_breaks_says_why() {
        let said = |broken: Result<(), Broken>| broken.unwrap_err().of_verb("x").to_string();
        let text = said(unbroken(async { panic!("sums overflow") }).await);
        assert!(
            text.contains('x') && text.contains("sums overflow"),
            "{text}"
        );
        let text = said(unbroken(async { panic!("at {}", 7) }).await);
        assert!(text.contains("at 7"), "{text}");
        let text = said(unbroken(async { std::panic::panic_any(7) }).await);
        assert!(text.contains("no reason given"), "{text}");
        assert_eq!(unbroken(async { 7 }).await.unwrap(), 7);
    }
}
