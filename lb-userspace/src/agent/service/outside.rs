//! Generations that the agent did not start: what is done about them when an agent starts, and
//! what a rollback can do when one has ended.

use std::{
    collections::{BTreeSet, HashSet},
    io,
    sync::Arc,
    time::Duration,
};

use lb_common::GenerationId;

use super::{
    AdoptError, Service, VerbError,
    books::{Books, Generation},
    broken::kept_up,
    candidate::still_alive,
    ending::place,
    pace::Pace,
    report::Reporter,
    steering::Steering,
};
use crate::{
    clock::Deadline,
    generation::{launch, life, listeners, unit},
    rollout::{self, GenerationState},
    store::{Ledger, Origin, Remembered},
    sys::{
        cgroup::Cgroup,
        established, process,
        sock_diag::{DumpError, Protocol},
    },
};

/// How often the connections are looked at that were open before an adoption, while nobody waits
/// for their end.
const SELDOM: Duration = Duration::from_secs(1);
/// The same while their generation is drained.
const OFTEN: Duration = Duration::from_millis(20);

impl Service {
    /// Before the parking listeners are opened again: has the groups of an adopted generation
    /// steered, through its own listeners, so that no client is hashed to the parking ones.
    pub(super) async fn steer_adopted(&self, ledger: &Ledger) {
        if ledger.boot != process::boot_id() {
            return;
        }
        let mut books = self.state.lock().await;
        for remembered in &ledger.generations {
            if let Some(cgroup) = adopted_cgroup(remembered) {
                self.steer_through(&mut books.steering, remembered, &cgroup);
            }
        }
    }

    fn steer_through(&self, steering: &mut Steering, remembered: &Remembered, cgroup: &Cgroup) {
        if self.path.word().active.is_none()
            && remembered.state == GenerationState::Active
            && let Some(id) = GenerationId::new(remembered.id)
        {
            steering.adopt(id);
        }
        let found = listeners::find(&self.netns, cgroup, Protocol::Tcp).unwrap_or_default();
        for group in self.path.groups() {
            let here = found.iter().filter(|w| w.address == group.address());
            let here: Vec<_> = here.cloned().collect();
            let attached = listeners::take(cgroup, &here)
                .into_values()
                .next()
                .map(|socket| group.attach(socket));
            if let Some(Err(error)) = attached {
                tracing::error!(
                    %error,
                    address = %group.address(),
                    "failed to attach the steering program"
                );
            }
        }
    }

    /// Takes back what an adoption did that an agent died in the middle of.
    pub(super) fn forget_adoption(&self, id: GenerationId) {
        for group in self.path.all_groups() {
            group.unregister(id);
        }
        self.path.stop_counting(id);
    }

    /// Goes on with what an earlier agent followed.
    pub(super) fn resume_outside(self: &Arc<Self>, books: &mut Books, id: GenerationId) {
        let earlier = books.get(id).map_or(0, |g| g.outside.earlier.len());
        if earlier > 0 {
            self.path.set_earlier(id, earlier as u64);
            self.follow_in_background(id);
        }
    }

    /// Counts down the connections that were open before the generation was adopted, for `track`
    /// does not know them.
    pub(super) fn follow_in_background(self: &Arc<Self>, id: GenerationId) {
        let service = Arc::clone(self);
        tokio::spawn(async move {
            kept_up("counting earlier connections", || {
                service.follow_earlier(id)
            })
            .await;
        });
    }

    async fn follow_earlier(&self, id: GenerationId) {
        loop {
            let Ok(open) = self.open_cookies() else {
                return;
            };
            let hurried = {
                let mut books = self.state.lock().await;
                let Some(generation) = books.get_mut(id) else {
                    return;
                };
                let before = generation.outside.earlier.len();
                generation
                    .outside
                    .earlier
                    .retain(|cookie| open.contains(cookie));
                let left = generation.outside.earlier.len();
                self.path.set_earlier(id, left as u64);
                generation.counted.closed += (before - left) as u64;
                let hurried = is_hurried(generation.state);
                if left == 0 {
                    self.state.settle(&books);
                    return;
                }
                if left < before {
                    self.state.ring();
                }
                hurried
            };
            if hurried {
                let _woken = tokio::time::timeout(OFTEN, self.state.changed()).await;
            } else {
                let _woken = tokio::time::timeout(SELDOM, self.hurried(id)).await;
            }
        }
    }

    /// All open connections at the service's ports.
    fn open_cookies(&self) -> Result<HashSet<u64>, DumpError> {
        let mut open = HashSet::new();
        for port in self.ports().ports {
            let here = established::at_port(&self.netns, port)?;
            open.extend(here.into_iter().map(|connection| connection.cookie));
        }
        if self.ports().transparent {
            let elsewhere = established::transparent(&self.netns)?;
            open.extend(
                elsewhere
                    .into_iter()
                    .map(|(connection, _)| connection.cookie),
            );
        }
        Ok(open)
    }

    async fn hurried(&self, id: GenerationId) {
        loop {
            let changed = self.state.changed();
            let state = self
                .state
                .look(|books| books.get(id).map(|g| g.state))
                .await;
            if state.is_none_or(is_hurried) {
                return;
            }
            changed.await;
        }
    }

    /// Makes a generation active, at once, because it was so before it ended and nobody else is.
    pub(super) fn take_over_again(
        self: &Arc<Self>,
        books: &mut Books,
        id: GenerationId,
        note: &str,
    ) {
        let fallback = books.decide(|standing| rollout::fallback(standing, Some(id)));
        books.steering.promote_again(id, fallback);
        self.became_active(books, id, Some(note.to_owned()));
        self.parking.release();
        self.note_failover(books, None, id, note.to_owned());
    }

    /// Waits until no process of the generation is left. In somebody else's cgroup the next server
    /// may run by then; there, what the watch task says is what counts.
    pub(super) async fn gone(&self, id: GenerationId, cgroup: &Cgroup) -> io::Result<()> {
        if !cgroup.is_foreign() {
            return life::emptied(cgroup).await;
        }
        let ended = self
            .state
            .look(|books| books.get(id).map(|g| g.ended.subscribe()))
            .await;
        if let Some(mut ended) = ended {
            // It fails when the entry is gone, and with it the generation.
            let _ended = ended.wait_for(Option::is_some).await;
        }
        Ok(())
    }

    /// What of a generation serves on in somebody else's cgroup, although its first process has ended.
    /// Nobody ends it: its supervisor may have started it in the meantime, with the same sockets.
    pub(super) async fn left_outside(&self, id: GenerationId) -> Option<String> {
        let (place, listeners) = {
            let books = self.state.lock().await;
            let generation = books.get(id)?;
            if !generation.cgroup.is_foreign() || generation.main_runs() {
                return None;
            }
            let all = generation.steered.keys().chain(generation.datagrams.keys());
            let listeners: BTreeSet<u64> = all.copied().collect();
            (place(self, generation), listeners)
        };
        let looking = tokio::task::spawn_blocking(move || place.holding(&listeners));
        let left = looking.await.unwrap_or_default();
        let (first, others) = left.split_first()?;
        let pids = others.iter().map(|other| format!(", {}", other.pid));
        Some(format!(
            "{} (pid {}{}) still serves, although the first process has ended: hotlb does not end \
             processes that may be its supervisor's by now; end it by hand",
            first.program.name,
            first.pid,
            pids.collect::<String>()
        ))
    }

    /// Kills what is left of a generation at its deadline. In somebody else's cgroup only while its
    /// first process lives: later all there may be its supervisor's next server.
    pub(super) async fn kill_rest(&self, id: GenerationId, cgroup: &Cgroup) -> io::Result<()> {
        // Under the lock, for it is for the agent in charge to do.
        let books = self.state.lock().await;
        let runs = books.get(id).is_some_and(Generation::main_runs);
        if cgroup.is_foreign() && !runs {
            return Ok(());
        }
        cgroup.kill()
    }

    /// A rollback to a generation that has ended and that the agent did not start: `None` if the
    /// agent can start its command all the same.
    pub(super) async fn revive_outside(
        self: &Arc<Self>,
        id: GenerationId,
        reporter: &Reporter,
    ) -> Result<Option<GenerationId>, VerbError> {
        let (origin, unit, name, command, cwd, has_roots) = {
            let books = self.state.lock().await;
            let Some(g) = books.get(id) else {
                return Ok(None);
            };
            let outside = &g.outside;
            let (name, command) = (g.name.clone(), g.command.clone());
            (
                outside.origin,
                outside.unit.clone(),
                name,
                command,
                g.cwd.clone(),
                g.roots.is_some(),
            )
        };
        match origin {
            Origin::Launched => Ok(None),
            Origin::Adopted => match launch::find(&command, &cwd) {
                Ok(_) => Ok(None),
                Err(_unknown) if has_roots => Ok(None),
                Err(_unknown) => Err(AdoptError::CommandUnknown {
                    generation: name,
                    shown: command.join(" "),
                }
                .into()),
            },
            Origin::Exec => {
                self.end(id).await;
                self.restart_unit(unit, name, &command, reporter)
                    .await
                    .map(Some)
            }
        }
    }

    /// Has systemd start the service again that the generation is, and waits until it is ready.
    async fn restart_unit(
        &self,
        unit: Option<String>,
        name: String,
        command: &[String],
        reporter: &Reporter,
    ) -> Result<GenerationId, VerbError> {
        let elsewhere = |why: String| VerbError::StartedElsewhere {
            generation: name.clone(),
            command: command.join(" "),
            why,
        };
        let Some(unit) = unit.filter(|_| unit::systemd_runs()) else {
            return Err(elsewhere(String::new()));
        };
        reporter.step(format!("systemctl start {unit}"));
        unit::start(&unit)
            .await
            .map_err(|error| elsewhere(format!(" ({error})")))?;
        let mut pace = Pace::until(Deadline::after(self.config.ready_timeout));
        loop {
            {
                let books = self.state.lock().await;
                if let Some(found) = books.by_name(&name)
                    && found.state.can_serve()
                    && still_alive(&books, found.id).is_ok()
                {
                    return Ok(found.id);
                }
            }
            if !self.state.look_again(&mut pace).await {
                return Err(elsewhere(format!(
                    " ({unit} was started, but is not ready)"
                )));
            }
        }
    }
}

fn is_hurried(state: GenerationState) -> bool {
    matches!(state, GenerationState::Draining | GenerationState::Stopping)
}

/// The cgroup of a remembered generation that was adopted and may still run.
fn adopted_cgroup(remembered: &Remembered) -> Option<Cgroup> {
    let outside = &remembered.outside;
    let adopted = outside.origin == Origin::Adopted && remembered.was_ready;
    let main_runs = remembered
        .main
        .is_some_and(|(pid, start)| process::start_time(pid) == Some(start));
    let path = outside.cgroup.clone().filter(|_| adopted && main_runs)?;
    remembered.state.is_live().then(|| Cgroup::foreign(path))
}
