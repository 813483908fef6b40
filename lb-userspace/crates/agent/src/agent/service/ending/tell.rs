//! The signal, and the second one for those that the first did not reach.

use std::{convert::Infallible, future::pending, time::Duration};

use lb_common::GenerationId;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    super::{freeze, registry::Generation},
    Judged, Teller,
    judge::{place, recipes},
};
use crate::{clock, generation::serving::Server, sys::process};

/// How often it is looked whether those that were told have ended.
const LOOK: Duration = Duration::from_millis(50);
/// How long others may serve on after that: whoever was waited for by them ends them in order.
const AFTER: Duration = Duration::from_millis(100);
/// The same for a first process that serves nobody itself: a script may have something to do
/// still.
const SCRIPT: Duration = Duration::from_secs(1);

impl Teller {
    /// Sends a generation its signal, and writes down that it was sent: under the lock of the
    /// registry, so that no other agent sends a second one, and none believes that it was sent before it was. Says
    /// whether it was sent now.
    pub(in crate::agent::service) async fn tell_to_end(
        &self,
        id: GenerationId,
        judged: &Judged,
    ) -> bool {
        let mut registry = self.state.lock().await;
        let Some(generation) = registry.get_mut(id) else {
            return false;
        };
        freeze::thaw(self, generation.cgroup());
        if generation.end().signalled().is_some() {
            return false; // by an earlier agent
        }
        generation.end_mut().note_signalled(judged.whom());
        tracing::info!(
            service = self.name(),
            generation = generation.name(),
            signal = %judged.recipe.signal,
            why = judged.recipe.why(&judged.program()),
            "signalled a generation to end"
        );
        let mut nobody = true;
        for (server, recipe) in &judged.told {
            nobody &= !send(server, recipe.signal);
        }
        // In somebody else's cgroup who is left may be its supervisor's next server.
        if nobody && !generation.cgroup().is_foreign() {
            generation.cgroup().signal(judged.recipe.signal);
        }
        self.state.settle(&registry);
        true
    }

    /// When all that were told have ended: has those end, once, that serve on, and a first process
    /// that was not told. Never comes back; give it up when the generation is gone.
    pub(in crate::agent::service) async fn tell_the_rest(
        &self,
        id: GenerationId,
        judged: &Judged,
    ) -> Infallible {
        let whom = self
            .state
            .look(|registry| registry.get(id).map(|g| g.end().signalled_whom().to_vec()))
            .await;
        let whom = whom.unwrap_or_default();
        let runs = |&(pid, started): &(u32, u64)| process::start_time(pid) == Some(started);
        while whom.iter().any(runs) {
            pause(LOOK).await;
        }
        if !whom.is_empty() {
            // An earlier agent may have told them; what they ran is not known then.
            let told = judged.told.iter().map(|(server, _)| server);
            let told: Vec<Server> = told
                .filter(|server| whom.contains(&(server.pid, server.started)))
                .cloned()
                .collect();
            pause(AFTER).await;
            self.tell_left(id, &told).await;
            pause(SCRIPT.saturating_sub(AFTER)).await;
            self.tell_first(id, &whom).await;
        }
        pending().await
    }

    async fn tell_left(&self, id: GenerationId, told: &[Server]) {
        let place = {
            let registry = self.state.lock().await;
            let Some(generation) = registry
                .get(id)
                .filter(|g| g.end().signalled_again().is_none())
            else {
                return;
            };
            place(self, generation)
        };
        let told = told.to_vec();
        let looking = tokio::task::spawn_blocking(move || place.left_by(&told));
        let left = looking.await.unwrap_or_default();
        if left.is_empty() {
            return;
        }
        let judged = recipes(self, &self.state, id, left).await;
        let mut registry = self.state.lock().await;
        let Some(generation) = registry
            .get_mut(id)
            .filter(|g| g.end().signalled_again().is_none())
        else {
            return; // another agent did it
        };
        generation.end_mut().note_signalled_again();
        for (server, recipe) in &judged {
            let signal = recipe.signal;
            tracing::info!(
                service = self.name(),
                generation = generation.name(),
                pid = server.pid,
                program = server.program.name,
                %signal,
                "signalled another process to end: those signalled first have ended, but it still \
                 serves"
            );
            send(server, signal);
        }
        self.state.settle(&registry);
    }

    /// The first process of the generation, if it was not among those that were told.
    async fn tell_first(&self, id: GenerationId, told: &[(u32, u64)]) {
        let registry = self.state.lock().await;
        let Some((pid, started)) = registry.get(id).and_then(Generation::main) else {
            return;
        };
        if told.contains(&(pid, started)) || process::start_time(pid) != Some(started) {
            return;
        }
        if let Some(server) = Server::of(pid) {
            send(&server, Signal::SIGTERM);
        }
    }
}

async fn pause(time: Duration) {
    tokio::time::sleep_until(clock::Deadline::after(time).instant()).await;
}

/// Says whether it was there.
fn send(server: &Server, signal: Signal) -> bool {
    let Ok(raw) = i32::try_from(server.pid) else {
        return false;
    };
    if !server.runs() {
        return false;
    }
    let sent = kill(Pid::from_raw(raw), signal);
    if let Err(error) = sent {
        tracing::debug!(pid = server.pid, %error, "failed to signal a process");
    }
    sent.is_ok()
}
