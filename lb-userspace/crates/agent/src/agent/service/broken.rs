//! Tasks that break: a defect in one of them must not keep its service from being operated.
//!
//! A panic ends the task it happens in and nothing else, and leaves what that task was to set right
//! as it is. So whoever begins such a task hears of it here, and sets it right.

use std::{any::Any, future::Future, panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt as _;

use super::VerbError;

/// How often what has broken is begun again at most.
const AGAIN: Duration = Duration::from_secs(1);
/// What a task said when it broke.
#[derive(Debug)]
pub(super) struct Broken(String);

impl Broken {
    fn of(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Self(text.unwrap_or_else(|| "no reason given".to_owned()))
    }

    /// What it said.
    pub(super) fn reason(self) -> String {
        self.0
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

/// Does something of the service that is done again soon: if it breaks, the next turn may go well.
pub(super) async fn outlive(service: &str, what: &str, work: impl Future<Output = ()> + Send) {
    if let Err(broken) = unbroken(work).await {
        let error = broken.of_verb(what);
        tracing::error!(service, %error, "a bug aborted a task of the agent");
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
