//! Is a generation ready? Its listeners, its slots, its answers.

use std::{collections::BTreeSet, time::Duration};

use lb_common::GenerationId;

use super::{CheckError, Pace, Service, books::Books};
use crate::{
    clock::Deadline,
    config::Health,
    generation::{
        fit::{self, Misfit},
        listeners, probe,
    },
    sys::{
        listener::{self, Twin},
        listing::{LATELY, Listing},
        sock_diag::{Protocol, Waiting},
    },
};

/// How long one probe may take; a server that needs longer is asked again.
const PROBE: Duration = Duration::from_secs(2);
/// What a probe gets at the very end of the deadline.
const LAST: Duration = Duration::from_millis(20);
/// How long listeners may be incomplete, or wrong, before that is the verdict: a server may open
/// them one after the other.
const SETTLING: Duration = Duration::from_secs(2);

impl Service {
    /// Gives each of the generation's listeners a slot. Cheap when nothing changed.
    pub(super) fn register(&self, books: &mut Books, id: GenerationId) -> Result<(), CheckError> {
        let listing = Listing::now(&self.netns, Protocol::Tcp)?;
        self.register_from(books, id, &listing)
    }

    /// The same for who looks again and again: a listener that was opened a moment ago may get its
    /// slot the next time.
    pub(super) fn register_lately(
        &self,
        books: &mut Books,
        id: GenerationId,
    ) -> Result<(), CheckError> {
        let listing = Listing::recent(&self.netns, Protocol::Tcp, LATELY)?;
        self.register_from(books, id, &listing)
    }

    fn register_from(
        &self,
        books: &mut Books,
        id: GenerationId,
        listing: &Listing,
    ) -> Result<(), CheckError> {
        let members = members(books, id, listing)?;
        let Some(generation) = books.get_mut(id) else {
            return Ok(());
        };
        let cookies: BTreeSet<u64> = members.iter().flatten().map(|w| w.cookie).collect();
        if cookies == generation.steered {
            return Ok(());
        }
        let mut steered = BTreeSet::new();
        let mut left_out = 0;
        for (group, members) in self.path.groups().iter().zip(&members) {
            let sockets = listeners::take(&generation.cgroup, members);
            for (&cookie, socket) in &sockets {
                if let Err(error) = listener::deepen(socket) {
                    tracing::warn!(%error, "a listener keeps its short queue");
                }
                self.path.note_listener(cookie, Some(id))?;
            }
            let registered = group.register(id, &sockets)?;
            steered.extend(registered.steered.keys());
            left_out += registered.left_out.len();
        }
        generation.steered = steered;
        generation.unsteered = left_out;
        Ok(())
    }

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
                Err(CheckError::Misfit(misfit)) => misfit,
                Err(error) => return Err(error),
            };
            still_alive(&books, id)?;
            if self.adapted(&mut books, id, &misfit)? {
                continue;
            }
            drop(books);
            let somewhere = !matches!(&misfit, Misfit::Missing { found, .. } if found.is_empty());
            if somewhere {
                verdict.get_or_insert(Deadline::after(SETTLING));
            }
            let over = verdict.is_some_and(|verdict| verdict.left().is_none());
            if over || !self.look_again(&mut pace).await {
                return Err(self.explained(id, misfit.into()).await);
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
                let asked = probe::probe(&self.path, &self.netns, id, address, health, patience).await;
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

/// The generation's listeners in each group, or why they do not fit.
fn members(
    books: &Books,
    id: GenerationId,
    listing: &Listing,
) -> Result<Vec<Vec<Waiting>>, CheckError> {
    let Some(generation) = books.get(id) else {
        return Ok(Vec::new());
    };
    let found = listing.below(&generation.cgroup);
    let found: Vec<Waiting> = found.into_iter().cloned().collect();
    if let Some(error) = &books.keeper_error {
        return Err(CheckError::NoKeeper(error.clone()));
    }
    Ok(fit::fit(&Service::twins(books), &found)?)
}
