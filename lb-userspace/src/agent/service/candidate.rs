//! Is a generation ready? Its listeners, its slots, its answers.

use std::time::Duration;

use lb_common::GenerationId;
use tokio::sync::Semaphore;

use super::{CheckError, Pace, Service, books::Books};
use crate::{
    clock::Deadline,
    config::Health,
    generation::{fit::Misfit, probe},
    sys::listener::Twin,
};

/// How long one probe may take; a server that needs longer is asked again.
const PROBE: Duration = Duration::from_secs(2);
/// What a probe gets at the very end of the deadline.
const LAST: Duration = Duration::from_millis(20);
/// How long listeners may be incomplete, or wrong, before that is the verdict: a server may open
/// them one after the other.
const SETTLING: Duration = Duration::from_secs(2);

/// Promotes that ask their candidates at the same time.
const AT_ONCE: usize = 8;

impl Service {
    /// Waits until the generation's listeners are where they belong and have slots.
    pub(super) async fn await_listeners(
        &self,
        id: GenerationId,
        deadline: Deadline,
    ) -> Result<(), CheckError> {
        let mut pace = Pace::until(deadline);
        let mut verdict: Option<Deadline> = None;
        loop {
            let mut books = self.books.lock().await;
            let misfit = match self.register(&mut books, id) {
                Ok(()) => return Ok(()),
                Err(error) if error.is_of_listeners() => error,
                Err(error) => return Err(error),
            };
            still_alive(&books, id)?;
            if let CheckError::Misfit(misfit) = &misfit
                && self.adapted(&mut books, id, misfit)?
            {
                continue;
            }
            drop(books);
            if misfit.is_somewhere() {
                verdict.get_or_insert(Deadline::after(SETTLING));
            }
            let over = verdict.is_some_and(|verdict| verdict.left().is_none());
            if over || !self.look_again(&mut pace).await {
                return Err(self.explained(id, misfit).await);
            }
        }
    }

    /// Has the parking listener become the twin of what the server opened, if that is possible.
    fn adapted(
        &self,
        books: &mut Books,
        id: GenerationId,
        misfit: &Misfit,
    ) -> Result<bool, CheckError> {
        let &Misfit::Stack { address, expected } = misfit else {
            return Ok(false);
        };
        let others_live = books
            .generations
            .iter()
            .any(|g| g.id != id && g.state.can_serve());
        if others_live {
            return Ok(false);
        }
        let twin = Twin {
            address,
            v6only: !expected,
            uid: self.config.identity.uid,
        };
        Ok(self.reshape(books, twin)?)
    }

    /// Asks the generation on every address until it has answered on all, or the deadline.
    pub(super) async fn await_answers(
        &self,
        id: GenerationId,
        deadline: Deadline,
    ) -> Result<(), CheckError> {
        let mut pace = Pace::until(deadline);
        for &address in &self.config.listen {
            let mut before = None;
            loop {
                let patience = deadline.left().unwrap_or(LAST).min(PROBE);
                let health = &self.config.health;
                let asked =
                    probe::probe(&self.path, &self.netns, id, address, health, patience).await;
                let error = match asked {
                    Ok(()) => break,
                    Err(error) => probe::telling(before, &error, patience < PROBE),
                };
                still_alive(&*self.books.lock().await, id)?;
                if !self.look_again(&mut pace).await {
                    return Err(self.explained(id, CheckError::Probe(error)).await);
                }
                before = Some(error);
            }
        }
        match &self.config.health {
            Health::Tcp | Health::Http(_) | Health::Grpc(_) => Ok(()),
            Health::Exec(command) => self.await_exec(id, command, deadline).await,
        }
    }

    /// Asks once, for a promote: the server has answered before.
    pub(super) async fn answers(&self, id: GenerationId) -> Result<(), CheckError> {
        // With a hundred promotes at once, each would use up its time waiting for the others.
        static ASKING: Semaphore = Semaphore::const_new(AT_ONCE);
        // It is never closed.
        let _turn = ASKING.acquire().await.ok();
        self.await_answers(id, Deadline::after(PROBE)).await
    }

    /// The error, together with what `join` had to say.
    async fn explained(&self, id: GenerationId, error: CheckError) -> CheckError {
        let books = self.books.lock().await;
        match books.get(id).and_then(|g| g.binds.last()) {
            Some(bind) => CheckError::Bind(format!("{error}; {bind}")),
            None => error,
        }
    }
}

impl CheckError {
    /// Whether its sockets do not fit, which may come right: a server opens them one by one.
    const fn is_of_listeners(&self) -> bool {
        matches!(self, Self::Misfit(_) | Self::NoDatagrams { .. })
    }

    /// Whether it has sockets somewhere, if not where they belong.
    const fn is_somewhere(&self) -> bool {
        match self {
            Self::Misfit(Misfit::Missing { found, .. }) => !found.is_empty(),
            Self::NoDatagrams { found, .. } => !found.is_empty(),
            _ => true,
        }
    }
}

/// An error if the generation has ended.
pub(super) fn still_alive(books: &Books, id: GenerationId) -> Result<(), CheckError> {
    let Some(generation) = books.get(id) else {
        return Err(CheckError::Ended("is gone".to_owned()));
    };
    let ended = generation.ended.borrow().clone();
    match ended {
        Some(how) => Err(match generation.binds.last() {
            Some(bind) => CheckError::Bind(format!("it {how}; {bind}")),
            None => CheckError::Ended(how),
        }),
        None => Ok(()),
    }
}
