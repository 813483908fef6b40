//! `hotlb exec`: a process that somebody else supervises becomes a generation.
//!
//! The agent makes room and says what is to be done; the process does it and becomes the server
//! (`generation::exec`). Whether it serves is found out in the background, as for a deploy. One
//! that does not is Failed and gets no client, but it is not killed: its supervisor started it,
//! and its supervisor ends it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use lb_common::GenerationId;
use nix::sys::signal::Signal;

use super::{
    super::{
        CheckError, VerbError,
        broken::{Broken, unbroken},
        checks::still_alive,
        ending::{place, signal_of},
        freeze,
        registry::{Command, Generation, Registry},
    },
    Adoptions,
};
use crate::{
    agent::drill,
    api::wire::ExecRequest,
    clock::{self, Deadline},
    config::{HandOver, check_name},
    datapath::ConnectionCounts,
    generation::{
        adoptee::{self, Unfit},
        exec::ExecSpec,
        life::{self, Main},
        notify::NotifySocket,
        serving::Place,
        unit,
    },
    rollout::GenerationState,
    store::{Origin, Provenance},
    sys::{cgroup::Cgroup, inspect::Inspected, netns::Netns},
};

/// What the registry says of a generation that its supervisor started again.
const AGAIN: &str = "restarted by its supervisor; it was active before, and no other generation is";

impl Adoptions {
    /// Enters process `pid` as a generation and says how it becomes one.
    ///
    /// # Errors
    ///
    /// Before anything changed.
    pub(in crate::agent::service) async fn exec(
        self: &Arc<Self>,
        request: ExecRequest,
        pid: u32,
    ) -> Result<ExecSpec, VerbError> {
        self.ports.take_port().await?;
        let caller = self.caller(pid)?;
        let mut registry = self.state.lock().await;
        let name = match &request.generation {
            Some(name) => name.clone(),
            None => registry.next_name(),
        };
        check_name(&name).map_err(VerbError::Name)?;
        if registry.is_ending() {
            return Err(VerbError::GoingDown);
        }
        self.lives.catch_up(&mut registry);
        refuse_running(&registry, &name)?;
        let id = self.seats.seat_for(&mut registry).await?;
        let awaited = self.free_name(&mut registry, &name);
        let (cgroup, provenance) = self.settle_in(id, &name, &caller)?;
        let notify = self.own_notify(id, &request)?;
        let counted = self.seats.succeed(&mut registry, &name, id);
        let spec = ExecSpec {
            netns: self.elsewhere(&caller),
            ..self.exec_spec(&registry, (id, &name), &cgroup, notify.as_ref())
        };
        let command = Command::shown(request.command, caller.cwd.clone());
        let begun = Self::begun(id, name, cgroup, &caller, command, counted);
        registry.add(begun.having(Provenance {
            ended_from: awaited.then_some(GenerationState::Active),
            ..provenance
        }));
        self.lives.word_follows(&mut registry);
        self.seats.forget_old(&mut registry);
        self.state.settle(&registry);
        self.lives.watch_life(&mut registry, id, Main::Found(pid));
        tokio::spawn(Arc::clone(self).prove(id, notify));
        drop(registry);
        self.state.log_unrecorded(self.name()).await;
        Ok(spec)
    }

    /// An entry of the registry for a process that runs already.
    pub(in crate::agent::service) fn begun(
        id: GenerationId,
        name: String,
        cgroup: Cgroup,
        process: &Inspected,
        command: Command,
        counted: ConnectionCounts,
    ) -> Generation {
        let mut generation = Generation::begin(id, name, cgroup).of(command, counted);
        generation.runs_as(process.pid, process.started);
        generation
    }

    /// Takes what is left of an earlier life of this name out of the way. Says whether that one
    /// was active when it ended.
    fn free_name(self: &Arc<Self>, registry: &mut Registry, name: &str) -> bool {
        let Some(earlier) = registry.by_name(name) else {
            return false;
        };
        let (id, state) = (earlier.id(), earlier.state());
        let awaited = earlier.provenance().is_awaited() && !state.is_live();
        if !state.is_live() || state == GenerationState::Stopping {
            return awaited;
        }
        // Its first process has ended, which nobody has noticed yet, or others of it live on.
        let was_active = self.path.word().active == Some(id);
        for group in self.path.all_groups() {
            group.unregister(id);
        }
        if let Some(earlier) = registry.get_mut(id) {
            earlier.undrain();
            let place = place(self, earlier);
            tokio::spawn(Arc::clone(self).dismiss(place));
        }
        was_active
    }

    /// Has the processes that outlived a server finish, and removes their cgroup.
    async fn dismiss(self: Arc<Self>, place: Place) {
        let deadline = Deadline::after(self.config.drain.deadline);
        let cgroup = place.cgroup.clone();
        let serving = tokio::task::spawn_blocking(move || place.servers(clock::now())).await;
        let first = serving.ok().and_then(|servers| Some(servers.first()?.pid));
        cgroup.signal(first.map_or(Signal::SIGTERM, |pid| signal_of(&self, pid)));
        let emptied = tokio::time::timeout_at(deadline.instant(), life::emptied(&cgroup)).await;
        let ended = match emptied {
            Ok(ended) => ended,
            Err(_elapsed) => cgroup.kill(),
        };
        let removed = match ended {
            Ok(()) => life::emptied(&cgroup).await.and_then(|()| cgroup.remove()),
            error => error,
        };
        if let Err(error) = removed {
            tracing::warn!(
                %error,
                cgroup = %cgroup.path().display(),
                "failed to remove the cgroup of processes that outlived a server"
            );
        }
    }

    /// Where the generation will live, with its programs attached. In the cgroup of its
    /// supervisor's making, if the process has that for itself: a systemd service stays within its
    /// limits, its accounting and its end. Else in one of hotlb's.
    fn settle_in(
        &self,
        id: GenerationId,
        name: &str,
        caller: &Inspected,
    ) -> Result<(Cgroup, Provenance), VerbError> {
        let room = adoptee::own_room(caller);
        let nested = room.map(|room| room.path().join(adoptee::nested(id.raw(), name)));
        let path = match &nested {
            Some(path) => path.clone(),
            None => self.generation_cgroup(id, name).path().to_owned(),
        };
        let cgroup = Cgroup::create(path).map_err(|source| VerbError::System {
            doing: "make the generation's cgroup",
            source,
        })?;
        let attached = self
            .path
            .count(id, cgroup.path())
            .and_then(|()| match &nested {
                Some(path) => {
                    self.path.join_outside(id, path)?;
                    self.allow(&cgroup)
                }
                None => Ok(()),
            });
        if let Err(error) = attached {
            self.path.stop_counting(id);
            if let Err(error) = cgroup.remove() {
                tracing::warn!(%error, "failed to remove the cgroup of a refused exec");
            }
            return Err(error.into());
        }
        let provenance = Provenance {
            origin: Origin::Exec,
            cgroup: nested,
            unit: caller.unit(),
            ..Provenance::default()
        };
        Ok((cgroup, provenance))
    }

    /// The agent's own notify socket: only if readiness waits for it and the supervisor, whose own
    /// is kept, gave none.
    fn own_notify(
        &self,
        id: GenerationId,
        request: &ExecRequest,
    ) -> Result<Option<NotifySocket>, VerbError> {
        if !self.config.notify || request.has_notify_socket {
            return Ok(None);
        }
        let path = self.places.notify(self.name(), id.raw());
        NotifySocket::bind(path, self.config.identity.uid)
            .map(Some)
            .map_err(|source| VerbError::System {
                doing: "open the notify socket",
                source,
            })
    }

    fn exec_spec(
        &self,
        registry: &Registry,
        (id, name): (GenerationId, &str),
        cgroup: &Cgroup,
        notify: Option<&NotifySocket>,
    ) -> ExecSpec {
        let identity = &self.config.identity;
        let mut env = BTreeMap::from([
            ("HOTLB_SERVICE".to_owned(), self.name().to_owned()),
            ("HOTLB_GENERATION".to_owned(), name.to_owned()),
        ]);
        env.extend(self.quic_server_id(id));
        if let Some(user) = &identity.name {
            env.insert("USER".to_owned(), user.clone());
            env.insert("LOGNAME".to_owned(), user.clone());
        }
        if let Some(notify) = notify {
            // The runtime directory is text: an agent with another one does not start.
            let path = notify.path().to_string_lossy().into_owned();
            env.insert("NOTIFY_SOCKET".to_owned(), path);
        }
        let inherit = match self.config.hand_over {
            HandOver::Overlap | HandOver::Parked | HandOver::Auto => Vec::new(),
            HandOver::Inherit => registry
                .parks()
                .group_keys()
                .into_iter()
                .map(|group_key| (self.name().to_owned(), group_key))
                .collect(),
        };
        ExecSpec {
            generation: name.to_owned(),
            cgroup: cgroup.path().to_owned(),
            env,
            uid: identity.uid,
            gid: identity.gid,
            user: identity.name.clone(),
            inherit,
            netns: None,
        }
    }

    /// The process that asks. It is in the service's network, or in the agent's and enters the
    /// service's.
    fn caller(&self, pid: u32) -> Result<Inspected, VerbError> {
        adoptee::caller(pid, &self.netns)
            .or_else(|error| match error {
                Unfit::OtherNetwork(..) if self.netns.path().is_some() => {
                    adoptee::caller(pid, &Netns::own())
                }
                error => Err(error),
            })
            .map_err(VerbError::from)
    }

    /// The network that a process has to enter, if it is not in it.
    fn elsewhere(&self, process: &Inspected) -> Option<PathBuf> {
        let is_there = self.netns.inode().is_ok_and(|own| own == process.netns);
        self.netns.path().filter(|_| !is_there).map(Path::to_owned)
    }

    /// After an agent's restart: goes on finding out whether an exec'd generation serves, or one that
    /// was found running without a ledger.
    pub(in crate::agent::service) fn prove_again(
        self: &Arc<Self>,
        registry: &Registry,
        id: GenerationId,
    ) -> bool {
        // No other one that starts has been ready already.
        let is_to_prove = |g: &Generation| g.provenance().origin == Origin::Exec || g.was_ready();
        let proving = registry.get(id).filter(|g| is_to_prove(g));
        let proves = proving.is_some();
        if let Some(generation) = proving {
            freeze::thaw(self, generation.cgroup());
            tokio::spawn(Arc::clone(self).prove(id, None));
        }
        proves
    }

    /// Asks what the systemd service of a generation is stopped by, if it is in one.
    async fn note_unit_signal(&self, id: GenerationId) {
        let unit = self
            .state
            .look(|registry| registry.get(id).and_then(|g| g.provenance().unit.clone()))
            .await;
        let Some(unit) = unit else {
            return;
        };
        if let Some(signal) = unit::stop_signal(&unit, None).await
            && let Some(generation) = self.state.lock().await.get_mut(id)
        {
            generation.note_unit_signal(signal.as_str().to_owned());
        }
    }

    /// Finds out whether the generation serves, and writes it down.
    async fn prove(self: Arc<Self>, id: GenerationId, notify: Option<NotifySocket>) {
        let asking = Arc::clone(&self);
        tokio::spawn(async move { asking.note_unit_signal(id).await });
        if let Err(broken) = unbroken(self.find_out(id, notify)).await {
            self.proof_broke(id, broken).await;
        }
    }

    async fn find_out(self: &Arc<Self>, id: GenerationId, notify: Option<NotifySocket>) {
        drill::point("prove");
        let deadline = Deadline::after(self.config.ready_timeout);
        let proved = self.proved(id, notify, deadline).await;
        let mut registry = self.state.lock().await;
        let proved = proved.and_then(|()| still_alive(&registry, id));
        let going = !registry.is_ending();
        let Some(generation) = registry.get_mut(id) else {
            return; // its supervisor has started the next one of its name
        };
        if generation.state() != GenerationState::Starting {
            return; // it was stopped meanwhile
        }
        match proved {
            Ok(()) => {
                let awaited = generation.provenance().is_awaited();
                generation.prove();
                if generation.state() == GenerationState::Standby {
                    freeze::freeze(self, &mut registry, id);
                }
                self.lives.word_follows(&mut registry);
                if awaited && going && self.path.word().active.is_none() {
                    self.lives.take_over_again(&mut registry, id, AGAIN);
                }
            }
            // One of the agent's own has no supervisor that would end it.
            Err(check) if generation.provenance().origin == Origin::Launched => {
                generation.condemn(check.to_string());
                self.lives.stop_in_background(&mut registry, id);
            }
            Err(check) => {
                let ended = generation.end().has_come();
                let after = if ended {
                    ""
                } else {
                    "; it keeps running without clients until its supervisor, or `hotlb stop`, \
                     ends it"
                };
                generation.enter(GenerationState::Failed, Some(format!("{check}{after}")));
                self.seats.retire_from_kernel(&mut registry, id);
            }
        }
        self.state.settle(&registry);
    }

    async fn proved(
        &self,
        id: GenerationId,
        notify: Option<NotifySocket>,
        deadline: Deadline,
    ) -> Result<(), CheckError> {
        if let Some(notify) = notify {
            self.checks.await_notice(id, &notify, deadline).await?;
        }
        self.checks.await_listeners(id, deadline).await?;
        self.checks.await_answers(id, deadline).await
    }

    /// It was not found out whether a process that somebody else supervises serves.
    pub(super) async fn proof_broke(&self, id: GenerationId, broken: Broken) {
        let mut registry = self.state.lock().await;
        let name = registry.name_of(id);
        let error = broken.of_verb(format!("the check of {name}"));
        tracing::error!(service = self.name(), %error, "a bug aborted the check of a generation");
        if let Some(generation) = registry.get_mut(id)
            && generation.state() == GenerationState::Starting
        {
            generation.enter(GenerationState::Failed, Some(error.summary()));
            self.seats.retire_from_kernel(&mut registry, id);
        }
        self.state.settle(&registry);
    }
}

/// A name is free when the first process of whoever had it has ended, whether or not that was
/// noticed; but an agent's own server may live on without its first process.
fn refuse_running(registry: &Registry, name: &str) -> Result<(), VerbError> {
    let Some(earlier) = registry.by_name(name) else {
        return Ok(());
    };
    let is_exec = earlier.provenance().origin == Origin::Exec;
    if earlier.main_runs() || earlier.state().is_live() && !is_exec {
        return Err(VerbError::NameTaken {
            name: name.to_owned(),
            state: earlier.state(),
        });
    }
    Ok(())
}

impl From<Unfit> for VerbError {
    fn from(error: Unfit) -> Self {
        super::AdoptError::from(error).into()
    }
}
