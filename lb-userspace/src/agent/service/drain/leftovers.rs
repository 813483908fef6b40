//! When a server is told to end, and what becomes of what is left at the deadline.

use std::{sync::Arc, time::Duration};

use lb_common::GenerationId;

use super::{super::Service, DrainStep};
use crate::{
    clock::Deadline,
    config::Leftovers,
    rollout::recipe::{self, Recipe},
    sys::{cgroup::Cgroup, process},
};

/// How long killed processes may take to be gone.
const GONE: Duration = Duration::from_secs(5);
/// How long a server has to end by itself once its last connections were ended.
const LAST: Duration = Duration::from_millis(500);
/// The same for one that gets its signal at the deadline: a data store saves what it has.
const LATE: Duration = Duration::from_secs(5);
/// Longer than any connection.
const WITHOUT_END: Duration = Duration::from_hours(24 * 365);

impl Service {
    /// How the generation is told to end.
    pub(in crate::agent::service) async fn recipe(&self, id: GenerationId) -> Option<Recipe> {
        let books = self.books.lock().await;
        let generation = books.get(id)?;
        let program = generation.command.first().map_or("", String::as_str);
        let main = generation.main.map(|(pid, _)| pid);
        Some(recipe::ending(
            program,
            self.config.drain.signal,
            |signal| main.is_some_and(|pid| process::catches(pid, signal)),
        ))
    }

    /// Until when connections may end by themselves: for `signal_after`; until the deadline where
    /// the signal would cut them, and without end where nothing is to be cut.
    pub(super) async fn signal_time(&self, id: GenerationId) -> Option<Deadline> {
        let recipe = self.recipe(id).await?;
        let policy = &self.config.drain;
        let wait = match (recipe.finishes, policy.leftovers) {
            (true, Leftovers::Keep) => policy.signal_after,
            (true, _) => policy.signal_after.min(policy.deadline),
            (false, Leftovers::Keep) => WITHOUT_END,
            (false, _) => policy.deadline,
        };
        let books = self.books.lock().await;
        let began = books.get(id)?.drain.as_ref()?.began;
        Some(Deadline::at(began + wait))
    }

    /// Waits until the generation's processes are gone, ending what is left at the deadline.
    /// Says how many connections were cut.
    pub(in crate::agent::service) async fn gone_by(
        self: &Arc<Self>,
        id: GenerationId,
        cgroup: &Cgroup,
        deadline: Deadline,
    ) -> Option<u64> {
        // Told to end only now: it may still do so in order.
        let grace = if deadline.left().is_none() {
            LATE
        } else {
            LAST
        };
        let gone = self.gone(id, cgroup);
        if tokio::time::timeout_at(deadline.instant(), gone)
            .await
            .is_ok()
        {
            return None;
        }
        let mut cut = 0;
        if self.config.drain.leftovers == Leftovers::Keep && !self.books.lock().await.is_ending() {
            self.enter_step(id, DrainStep::LongLived).await;
            // For as long as they last; the operator said so.
            let _unwatched = self.gone(id, cgroup).await;
            return None;
        }
        if let Some((later, ended)) = self.spare_long_lived(id).await {
            cut += ended;
            let gone = self.gone(id, cgroup);
            if tokio::time::timeout_at(later.instant(), gone).await.is_ok() {
                return Some(cut);
            }
        }
        cut += self.cut(id, false).await;
        self.kill(id, cgroup, grace).await;
        Some(cut)
    }

    /// Ends what may not stay longer than the deadline. Until when the rest may, if there is any,
    /// and how many were ended.
    pub(super) async fn spare_long_lived(
        self: &Arc<Self>,
        id: GenerationId,
    ) -> Option<(Deadline, u64)> {
        let later = self.long_lived_deadline(id).await?;
        let ended = self.cut(id, true).await;
        let mut books = self.books.lock().await;
        if let Some(drain) = books.get_mut(id).and_then(|g| g.drain.as_mut()) {
            drain.step = DrainStep::LongLived;
            drain.deadline = later;
        }
        Some((later, ended))
    }

    /// When long-lived connections are ended, if they may stay longer and there are any.
    pub(super) async fn long_lived_deadline(
        self: &Arc<Self>,
        id: GenerationId,
    ) -> Option<Deadline> {
        let long = self.config.drain.long_lived?;
        if self.books.lock().await.is_ending() {
            return None;
        }
        let began = self.books.lock().await.get(id)?.drain.as_ref()?.began;
        let later = Deadline::at(began + long.deadline);
        later.left()?;
        let stay = self
            .left(id, |age| age.is_none_or(|age| age >= long.after))
            .await;
        (!stay.is_empty()).then_some(later)
    }

    /// Kills what is left, and waits until it is gone. A server whose last connections have been
    /// ended may end in order before that, for `grace`.
    async fn kill(&self, id: GenerationId, cgroup: &Cgroup, grace: Duration) {
        let ended = tokio::time::timeout(grace, self.gone(id, cgroup)).await;
        if ended.is_ok() {
            return;
        }
        if let Err(error) = self.kill_rest(id, cgroup).await {
            tracing::error!(%error, cgroup = %cgroup.path().display(), "cannot kill");
        }
        self.await_gone(id, cgroup).await;
    }

    /// Waits until killed processes are gone.
    pub(in crate::agent::service) async fn await_gone(&self, id: GenerationId, cgroup: &Cgroup) {
        let gone = tokio::time::timeout(GONE, self.gone(id, cgroup)).await;
        if gone.is_err() {
            tracing::error!(cgroup = %cgroup.path().display(), "does not go away");
        }
    }
}
