//! Is a generation ready? Its listeners, its slots, its answers.

use std::{io::ErrorKind, time::Duration};

use lb_common::GenerationId;
use tokio::sync::Semaphore;

use super::{CheckError, Service, books::Books, pace::Pace, slots::register};
use crate::{
    clock::Deadline,
    config::Health,
    datapath::DatapathError,
    generation::{
        fit::Misfit,
        probe::{self, Candidate, ProbeError},
    },
    sys::listener::Twin,
};

/// How long one probe may take; a server that needs longer is asked again.
const PROBE: Duration = Duration::from_secs(2);
/// What a probe gets at the very end of the deadline.
const LAST: Duration = Duration::from_millis(20);
/// How long listeners may be incomplete, or wrong, before that is the verdict: a server may open
/// them one after the other.
const SETTLING: Duration = Duration::from_secs(2);

/// The same for a listener that nobody has as a descriptor: a list is out of date for moments only.
const OPENING: Duration = Duration::from_millis(300);

/// How long a UDP socket has to fit before its server is ready.
const BOUND: Duration = Duration::from_millis(20);

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
        let mut bound: Option<Deadline> = None;
        loop {
            let mut books = self.state.lock().await;
            let misfit = match register(self, &mut books, id) {
                Ok(()) => {
                    drop(books);
                    // No probe follows for a UDP socket, and its server may go on with it after
                    // the bind: it is looked at until it has been there for a moment.
                    let bound = bound.get_or_insert_with(|| Deadline::after(BOUND));
                    let waits = self.config.datagrams.is_some() && bound.left().is_some();
                    if waits && self.state.look_again(&mut pace).await {
                        continue;
                    }
                    return Ok(());
                }
                Err(error) if error.is_of_listeners() => error,
                Err(error) => return Err(error),
            };
            still_alive(&books, id)?;
            drop(books);
            if let CheckError::Misfit(misfit) = &misfit
                && self.adapted(id, misfit).await?
            {
                continue;
            }
            if misfit.is_somewhere() {
                let settling = match misfit {
                    CheckError::NoDescriptor { .. } => OPENING,
                    _ => SETTLING,
                };
                verdict.get_or_insert(Deadline::after(settling));
            }
            let over = verdict.is_some_and(|verdict| verdict.left().is_none());
            if over || misfit.is_final() || !self.state.look_again(&mut pace).await {
                // Some that nobody holds, beside others that get clients: `status` says so.
                if matches!(misfit, CheckError::Untaken { .. }) && self.listens(id) {
                    return Ok(());
                }
                return Err(self.explained(id, misfit).await);
            }
        }
    }

    /// Has the parking listener become the twin of what the server opened, if that is possible.
    async fn adapted(&self, id: GenerationId, misfit: &Misfit) -> Result<bool, CheckError> {
        let &Misfit::Stack { address, expected } = misfit else {
            return Ok(false);
        };
        let is_alone = |books: &Books| {
            let mut others = books.generations.iter().filter(|g| g.id != id);
            !others.any(|other| other.state.can_serve()) && still_alive(books, id).is_ok()
        };
        let twin = Twin {
            address,
            v6only: !expected,
            uid: self.config.identity.uid,
        };
        Ok(self
            .parking
            .reshape(self, &self.state, twin, is_alone)
            .await?)
    }

    /// Asks the generation on every address until it has answered on all, or the deadline.
    pub(super) async fn await_answers(
        &self,
        id: GenerationId,
        deadline: Deadline,
    ) -> Result<(), CheckError> {
        let mut pace = Pace::until(deadline);
        let cgroup = match self.state.lock().await.get(id) {
            Some(generation) => generation.cgroup.clone(),
            None => return Err(CheckError::Ended("is gone".to_owned())),
        };
        let candidate = Candidate {
            path: &self.path,
            netns: &self.netns,
            generation: id,
            cgroup: &cgroup,
        };
        for &address in &self.config.listen {
            let mut before = None;
            loop {
                let patience = deadline.left().unwrap_or(LAST).min(PROBE);
                let asked = probe::probe(candidate, address, &self.config.health, patience).await;
                let error = match asked {
                    Ok(()) => break,
                    Err(error) if error.is_of_listeners() => self.listed_anew(id, error).await?,
                    Err(error) => {
                        still_alive(&*self.state.lock().await, id)?;
                        CheckError::Probe(probe::telling(before, &error, patience < PROBE))
                    }
                };
                if !self.state.look_again(&mut pace).await {
                    return Err(self.explained(id, error).await);
                }
                before = match error {
                    CheckError::Probe(said) => Some(said),
                    _ => None,
                };
            }
        }
        match &self.config.health {
            Health::Tcp | Health::Http(_) | Health::Grpc(_) => Ok(()),
            Health::Exec(command) => self.await_exec(id, command, deadline).await,
        }
    }

    /// Gives the listeners slots that it has now: it may have opened them anew. What is wrong with
    /// it, for the time being.
    async fn listed_anew(
        &self,
        id: GenerationId,
        probed: ProbeError,
    ) -> Result<CheckError, CheckError> {
        let mut books = self.state.lock().await;
        still_alive(&books, id)?;
        match register(self, &mut books, id) {
            Ok(()) => Ok(CheckError::Probe(probed.to_string())),
            Err(error) if error.is_of_listeners() && !error.is_final() => Ok(error),
            Err(error) => Err(error),
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
        let books = self.state.lock().await;
        match books.get(id).and_then(|g| g.binds.last()) {
            Some(bind) => CheckError::Bind(format!("{error}; {bind}")),
            None => error,
        }
    }
}

impl CheckError {
    /// Whether its sockets do not fit, which may come right: a server opens them one by one.
    pub(super) fn is_of_listeners(&self) -> bool {
        match self {
            Self::Misfit(_)
            | Self::NoDatagrams { .. }
            | Self::NoDescriptor { .. }
            | Self::Untaken { .. } => true,
            // What was listed a moment ago listens no more, or in another way: bound to a device, say.
            Self::Datapath(DatapathError::Slot { source, .. }) => {
                source.kind() == ErrorKind::InvalidInput
            }
            _ => false,
        }
    }

    /// Whether it has listeners that no process has as a descriptor.
    pub(super) const fn is_hidden(&self) -> bool {
        matches!(self, Self::Untaken { .. } | Self::NoDescriptor { .. })
    }

    /// Whether waiting is in vain, and would be at the expense of clients.
    const fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Misfit(Misfit::Bound { .. } | Misfit::Narrower { .. })
        )
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
