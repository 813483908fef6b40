//! Is a generation ready? Its listeners, its slots, its answers.

pub(super) mod exec;

use std::{io::ErrorKind, sync::Arc, time::Duration};

use lb_common::GenerationId;
use tokio::{sync::Semaphore, time::timeout};

use super::{
    CheckError, Context, HostError, VerbError, freeze, pace::Pace, parking::Parking,
    registry::Registry, shared::SharedState, slots::register,
};
use crate::{
    clock::Deadline,
    config::Health,
    datapath::DatapathError,
    generation::{
        fit::Misfit,
        notify::NotifySocket,
        probe::{self, Candidate, ProbeError},
    },
    rollout::GenerationState,
    sys::listener::GroupKey,
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

/// Finds out whether generations serve.
#[derive(Debug)]
pub(super) struct Checks {
    context: Arc<Context>,
    state: SharedState,
    parking: Arc<Parking>,
}

context_of!(Checks);

impl Checks {
    /// Those of a service.
    pub(super) fn new(context: &Arc<Context>, state: &SharedState, parking: &Arc<Parking>) -> Self {
        Self {
            context: Arc::clone(context),
            state: state.clone(),
            parking: Arc::clone(parking),
        }
    }

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
            let mut registry = self.state.lock().await;
            let misfit = match register(self, &mut registry, id) {
                Ok(()) => {
                    drop(registry);
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
            still_alive(&registry, id)?;
            drop(registry);
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

    /// Has the parking listener open in the group of what the server opened, if that is possible.
    async fn adapted(&self, id: GenerationId, misfit: &Misfit) -> Result<bool, CheckError> {
        let &Misfit::Stack { address, expected } = misfit else {
            return Ok(false);
        };
        let is_alone = |registry: &Registry| {
            let mut others = registry.all().filter(|g| g.id() != id);
            !others.any(|other| other.state().can_serve()) && still_alive(registry, id).is_ok()
        };
        let group_key = GroupKey {
            address,
            v6only: !expected,
            uid: self.config.identity.uid,
        };
        Ok(self
            .parking
            .reshape(self, &self.state, group_key, is_alone)
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
            Some(generation) => generation.cgroup().clone(),
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
        let mut registry = self.state.lock().await;
        still_alive(&registry, id)?;
        match register(self, &mut registry, id) {
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
        let registry = self.state.lock().await;
        match registry.get(id).and_then(|g| g.slots().last_bind()) {
            Some(bind) => CheckError::Bind(format!("{error}; {bind}")),
            None => error,
        }
    }

    /// What was true when it became ready must be true now.
    pub(super) async fn check_again(&self, id: GenerationId) -> Result<(), VerbError> {
        let checked = async {
            {
                let mut registry = self.state.lock().await;
                still_alive(&registry, id)?;
                if let Some(generation) = registry.get(id) {
                    freeze::thaw(self, generation.cgroup());
                }
                register(self, &mut registry, id)?;
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
        let mut registry = self.state.lock().await;
        let stands_by = registry
            .get(id)
            .is_some_and(|g| g.state() == GenerationState::Standby);
        if stands_by {
            freeze::freeze(self, &mut registry, id);
        }
    }

    /// A check that failed, as the answer to a verb.
    pub(super) async fn not_ready(&self, id: GenerationId, error: &CheckError) -> VerbError {
        VerbError::NotReady {
            generation: self.state.look(|registry| registry.name_of(id)).await,
            check: error.to_string(),
        }
    }

    pub(super) async fn await_notice(
        &self,
        id: GenerationId,
        notify: &NotifySocket,
        deadline: Deadline,
    ) -> Result<(), CheckError> {
        let limit = deadline.left().unwrap_or_default();
        let mut ended = match self.state.lock().await.get(id) {
            Some(generation) => generation.end().awaited(),
            None => return Ok(()),
        };
        let notice = async {
            tokio::select! {
                ready = notify.ready() => ready.map_err(|error| CheckError::Ended(error.to_string())),
                how = ended.wait_for(Option::is_some) => Err(CheckError::Ended(
                    how.ok().and_then(|how| how.clone()).unwrap_or_default(),
                )),
            }
        };
        match timeout(limit, notice).await {
            Ok(result) => result,
            Err(_elapsed) => Err(CheckError::NotNotified(limit)),
        }
    }
}

impl CheckError {
    /// Whether its sockets do not fit, which may come right: a server opens them one by one.
    pub(super) fn is_of_listeners(&self) -> bool {
        match self {
            Self::Misfit(_)
            | Self::NoDatagrams(_)
            | Self::NoDescriptor { .. }
            | Self::Untaken { .. } => true,
            // What was listed a moment ago listens no more, or in another way: bound to a device, say.
            Self::Host(HostError::Datapath(DatapathError::Slot { source, .. })) => {
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
            Self::NoDatagrams(unbound) => !unbound.has_none(),
            _ => true,
        }
    }
}

/// An error if the generation has ended.
pub(super) fn still_alive(registry: &Registry, id: GenerationId) -> Result<(), CheckError> {
    let Some(generation) = registry.get(id) else {
        return Err(CheckError::Ended("is gone".to_owned()));
    };
    let ended = generation.end().how();
    match ended {
        Some(how) => Err(match generation.slots().last_bind() {
            Some(bind) => CheckError::Bind(format!("it {how}; {bind}")),
            None => CheckError::Ended(how),
        }),
        None => Ok(()),
    }
}
