//! Deploy: a candidate comes to be beside the active generation.

mod revive;

use std::{sync::Arc, time::Duration};

use lb_common::GenerationId;
use tokio::process::Child;

use super::{
    CheckError, Context, Now, VerbError,
    broken::{Broken, unbroken},
    checks::{Checks, still_alive},
    lives::Lives,
    outlet,
    parking::Parking,
    ports::ForeignPorts,
    registry::{Command, Generation, Registry},
    report::Reporter,
    seats::Seats,
    shared::SharedState,
};
use crate::{
    agent::drill,
    api::wire::{DeployRequest, Done},
    clock::{self, Deadline},
    config::{HandOver, check_name},
    generation::{
        launch::{self, LaunchError},
        life::Main,
        loadable::{self, Program},
        notify::NotifySocket,
        roots::Roots,
        shim::LaunchSpec,
    },
    rollout::GenerationState,
    sys::{cgroup::Cgroup, process},
};

/// Starts generations, and starts them again.
#[derive(Debug)]
pub(super) struct Deploys {
    context: Arc<Context>,
    state: SharedState,
    lives: Arc<Lives>,
    seats: Seats,
    checks: Checks,
    ports: Arc<ForeignPorts>,
}

context_of!(Deploys);

impl Deploys {
    /// Those of a service.
    pub(super) fn new(
        context: &Arc<Context>,
        state: &SharedState,
        parking: &Arc<Parking>,
        lives: &Arc<Lives>,
    ) -> Self {
        Self {
            context: Arc::clone(context),
            state: state.clone(),
            lives: Arc::clone(lives),
            seats: Seats::new(context, state),
            checks: Checks::new(context, state, parking),
            ports: Arc::new(ForeignPorts::new(context, state, parking)),
        }
    }

    /// Starts a generation and waits until it is ready. It gets no client before a promote.
    ///
    /// # Errors
    ///
    /// [`VerbError::NeverReady`] with the check that failed: the candidate was stopped, nothing
    /// else changed.
    pub(super) async fn deploy(
        self: &Arc<Self>,
        request: DeployRequest,
        reporter: &Reporter,
    ) -> Result<Done, VerbError> {
        self.deploy_again(request, reporter, false).await
    }

    /// [`Deploys::deploy`]; `again`: of a generation that has ended, under its name.
    pub(super) async fn deploy_again(
        self: &Arc<Self>,
        request: DeployRequest,
        reporter: &Reporter,
        again: bool,
    ) -> Result<Done, VerbError> {
        let id = self.enrol(&request, again).await?;
        let started = unbroken(self.start(id, &request, reporter)).await;
        match started {
            Ok(started) => started,
            Err(broken) => Err(self.deploy_broke(id, broken).await),
        }
    }

    /// Starts a generation that is enrolled, and waits until it is ready.
    pub(super) async fn start(
        self: &Arc<Self>,
        id: GenerationId,
        request: &DeployRequest,
        reporter: &Reporter,
    ) -> Result<Done, VerbError> {
        drill::point("deploy");
        let began = clock::now();
        let limit = request
            .timeout_ms
            .map_or(self.config.ready_timeout, Duration::from_millis);
        let result = self.bring_up(id, Deadline::after(limit), reporter).await;
        let mut registry = self.state.lock().await;
        let name = registry.name_of(id);
        registry.end_deploy();
        // Whoever stopped it meanwhile is the reason for whatever else failed.
        let is_starting = registry
            .get(id)
            .is_some_and(|g| g.state() == GenerationState::Starting);
        let result = match (result, still_starting(&registry, id)) {
            (Ok(()) | Err(BringUpError::Launch(_)), Err(stopped)) => Err(stopped.into()),
            (Err(_), Err(stopped)) if !is_starting => Err(stopped.into()),
            (result, _) => result,
        };
        let result = match result {
            Ok(()) => Ok(()),
            Err(BringUpError::Launch(error)) => Err(VerbError::Launch(error)),
            Err(BringUpError::Check(check)) => Err(VerbError::NeverReady {
                check: match registry.get(id).and_then(|g| g.command().doubt()) {
                    Some(doubt) => format!("{check}; {doubt}"),
                    None => check.to_string(),
                },
                ended: ended_by_itself(&registry, id),
                output: outlet::last_lines(self, &name),
                now: Now::Untouched,
                generation: name.clone(),
            }),
        };
        if let Err(error) = result {
            self.lives.discard(&mut registry, id, error.summary());
            return Err(error);
        }
        if let Some(generation) = registry.get_mut(id) {
            generation.become_ready();
        }
        self.lives.word_follows(&mut registry);
        self.state.settle(&registry);
        let pid = registry
            .get(id)
            .and_then(Generation::pid)
            .unwrap_or_default();
        let doubt = registry
            .get(id)
            .and_then(|g| g.command().doubt().map(str::to_owned));
        let took =
            humantime::format_duration(Duration::from_millis(clock::millis(began.elapsed())));
        Ok(Done {
            message: format!("{name} is ready (pid {pid}, after {took}); it gets no client yet"),
            generation: Some(name),
            warnings: doubt.into_iter().collect(),
            ..Done::default()
        })
    }

    /// Enters a new generation into the registry.
    pub(super) async fn enrol(
        self: &Arc<Self>,
        request: &DeployRequest,
        again: bool,
    ) -> Result<GenerationId, VerbError> {
        self.ports.take_port().await?;
        // What has served before is asked by being started.
        let doubt = if again {
            None
        } else {
            self.check_program(request).await?
        };
        let mut registry = self.state.lock().await;
        let id = self.enrol_in(&mut registry, request, again).await?;
        self.note_doubt(&mut registry, id, doubt);
        Ok(id)
    }

    /// Notes what makes it doubtful that the generation's program can be loaded.
    pub(super) fn note_doubt(
        &self,
        registry: &mut Registry,
        id: GenerationId,
        doubt: Option<String>,
    ) {
        if let Some(doubt) = &doubt {
            tracing::warn!(
                service = self.name(),
                generation = registry.name_of(id),
                doubt,
                "the program of a generation may not start"
            );
        }
        if let Some(generation) = registry.get_mut(id) {
            generation.command_mut().note_doubt(doubt);
        }
    }

    /// [`Deploys::enrol`] for who has the lock.
    pub(super) async fn enrol_in(
        &self,
        registry: &mut Registry,
        request: &DeployRequest,
        again: bool,
    ) -> Result<GenerationId, VerbError> {
        let name = match &request.generation {
            Some(name) => name.clone(),
            None => registry.next_name(),
        };
        check_name(&name).map_err(VerbError::Name)?;
        if registry.is_ending() {
            return Err(VerbError::GoingDown);
        }
        if let Some(other) = registry.deploying() {
            return Err(VerbError::Busy(other.to_owned()));
        }
        refuse_taken(registry, &name)?;
        let roots = match registry
            .by_name(&name)
            .and_then(|earlier| earlier.command().roots().cloned())
        {
            // Only what a rollback leads to is started again under its name.
            Some(roots) if again => Some(roots),
            _ => None,
        };
        let found = launch::find(&request.command, &request.cwd);
        let (program, cwd) = match &roots {
            Some(roots) => roots.again(found.ok(), &request.cwd)?,
            None => (found?, request.cwd.clone()),
        };
        let roots = Roots::of(&program, &cwd);
        if let Err(error) = &roots {
            tracing::warn!(%error, generation = name, "failed to stat the program or directory");
        }
        let id = self.seats.seat_for(registry).await?;
        let counted = self.seats.succeed(registry, &name, id);
        let cgroup = self.generation_cgroup(id, &name);
        let command = Command::new(
            request.command.clone(),
            cwd,
            request.env.clone(),
            roots.ok(),
        );
        let begun = Generation::begin(id, name.clone(), cgroup);
        registry.add(begun.of(command.executing(program), counted));
        self.seats.forget_old(registry);
        // Last: whoever sets it is who takes it back.
        registry.begin_deploy(name);
        self.state.settle(registry);
        Ok(id)
    }

    /// Refuses a command that cannot be started. Without the registry: the program's loader may take
    /// its time.
    ///
    /// What is doubtful about one that perhaps can, in words.
    pub(super) async fn check_program(
        &self,
        request: &DeployRequest,
    ) -> Result<Option<String>, LaunchError> {
        let program = launch::find(&request.command, &request.cwd)?;
        let mut env = self.base_env();
        env.extend(&request.env);
        let doubt = loadable::check(Program {
            path: &program,
            cwd: &request.cwd,
            env: &env,
            uid: self.config.identity.uid,
            gid: self.config.identity.gid,
        });
        Ok(doubt.await?.map(|doubt| doubt.to_string()))
    }

    async fn bring_up(
        self: &Arc<Self>,
        id: GenerationId,
        deadline: Deadline,
        reporter: &Reporter,
    ) -> Result<(), BringUpError> {
        // A hook before it may have taken its time.
        still_starting(&*self.state.lock().await, id)?;
        let notify = self.notify_socket(id)?;
        let mut spec = self.spec(id, notify.as_ref()).await?;
        let program = [spec.program.to_string_lossy().into_owned()];
        let words: Vec<String> = program.into_iter().chain(spec.arguments.clone()).collect();
        reporter.step(format!("starting {}", words.join(" ")));
        Cgroup::create(spec.cgroup.clone())
            .map_err(LaunchError::at("make cgroup", &spec.cgroup))?;
        self.path
            .count(id, &spec.cgroup)
            .map_err(CheckError::from)?;
        launch::begin_output(&spec.output).await?;
        let mut outlet = outlet::open(self, &mut spec);
        // The next agent knows of it before it runs. If it would not, the verb says so at its end.
        let _unrecorded = self.state.ledger().written().await;
        let child = launch::launch(&spec, &self.netns).await?;
        if let Some(outlet) = &mut outlet {
            outlet.is_taken();
        }
        self.born(id, child).await;
        // Whoever stopped it before there was a process has signalled none.
        still_starting(&*self.state.lock().await, id)?;
        let proven = self.check(id, notify, deadline, reporter).await;
        if let Some(outlet) = outlet.filter(|_| proven.is_err()) {
            // The error shows its last words.
            outlet.settled().await;
        }
        Ok(proven?)
    }

    async fn check(
        self: &Arc<Self>,
        id: GenerationId,
        notify: Option<NotifySocket>,
        deadline: Deadline,
        reporter: &Reporter,
    ) -> Result<(), CheckError> {
        if let Some(notify) = notify.filter(|_| self.config.notify) {
            reporter.step("waiting for READY=1");
            self.checks.await_notice(id, &notify, deadline).await?;
        }
        reporter.step("waiting for its listeners");
        self.checks.await_listeners(id, deadline).await?;
        reporter.step("probing it through the real port");
        self.checks.await_answers(id, deadline).await
    }

    /// Writes down the generation's first process and watches it.
    async fn born(self: &Arc<Self>, id: GenerationId, child: Child) {
        let mut registry = self.state.lock().await;
        if let (Some(generation), Some(pid)) = (registry.get_mut(id), child.id()) {
            generation.runs_as(pid, process::start_time(pid).unwrap_or_default());
        }
        self.lives
            .watch_life(&mut registry, id, Main::Child(Box::new(child)));
        self.state.settle(&registry);
    }

    fn notify_socket(&self, id: GenerationId) -> Result<Option<NotifySocket>, BringUpError> {
        if !self.config.notify {
            return Ok(None);
        }
        let path = self.places.notify(self.name(), id.raw());
        let socket = NotifySocket::bind(path.clone(), self.config.identity.uid);
        let refused = LaunchError::at("open the notify socket", &path);
        Ok(Some(socket.map_err(refused)?))
    }

    async fn spec(
        &self,
        id: GenerationId,
        notify: Option<&NotifySocket>,
    ) -> Result<LaunchSpec, BringUpError> {
        let registry = self.state.lock().await;
        let generation = registry
            .get(id)
            .ok_or_else(|| CheckError::Ended("is gone".to_owned()))?;
        let command = generation.command();
        let program = match command.program() {
            Some(program) => program.to_owned(),
            None => launch::find(command.words(), command.cwd())?,
        };
        let mut env = self.base_env();
        env.extend(command.env());
        env.set("HOTLB_GENERATION", generation.name());
        env.extend(self.quic_server_id(id));
        if let Some(notify) = notify {
            env.set("NOTIFY_SOCKET", notify.path());
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
        Ok(LaunchSpec {
            cgroup: generation.cgroup().path().to_owned(),
            program,
            arguments: command.words().iter().skip(1).cloned().collect(),
            cwd: command.cwd().to_owned(),
            env,
            output: self.places.output(self.name(), generation.name()),
            pipe: None,
            uid: self.config.identity.uid,
            gid: self.config.identity.gid,
            user: self.config.identity.name.clone(),
            inherit,
        })
    }

    /// A deploy broke: its candidate is ended, and another one can be deployed.
    pub(super) async fn deploy_broke(&self, id: GenerationId, broken: Broken) -> VerbError {
        let mut registry = self.state.lock().await;
        let name = registry.name_of(id);
        let error = broken.of_verb(format!("the deploy of {name}"));
        tracing::error!(service = self.name(), %error, "a bug aborted a deploy");
        registry.end_deploy_of(&name);
        if registry.get(id).map(Generation::state) == Some(GenerationState::Starting) {
            self.lives.discard(&mut registry, id, error.summary());
        }
        error
    }
}

/// Whether the generation's processes ended without being told to.
fn ended_by_itself(registry: &Registry, id: GenerationId) -> bool {
    registry.get(id).is_some_and(|generation| {
        generation.state() == GenerationState::Starting && generation.end().has_come()
    })
}

fn refuse_taken(registry: &Registry, name: &str) -> Result<(), VerbError> {
    match registry.by_name(name).map(Generation::state) {
        None | Some(GenerationState::Failed) => Ok(()),
        // Rolled back to: its own command is started again.
        Some(GenerationState::Stopped)
            if registry.steering().previous().is_some()
                && registry.steering().previous() == registry.by_name(name).map(Generation::id) =>
        {
            Ok(())
        }
        Some(state) => Err(VerbError::NameTaken {
            name: name.to_owned(),
            state,
        }),
    }
}

/// An error if the candidate was stopped, or ended, while it proved itself.
fn still_starting(registry: &Registry, id: GenerationId) -> Result<(), CheckError> {
    still_alive(registry, id)?;
    match registry.get(id).map(Generation::state) {
        Some(GenerationState::Starting) if !registry.is_ending() => Ok(()),
        _ => Err(CheckError::Ended("was stopped meanwhile".to_owned())),
    }
}

/// Why a candidate was not brought up.
#[derive(Debug, thiserror::Error)]
enum BringUpError {
    #[error(transparent)]
    Launch(#[from] LaunchError),
    #[error(transparent)]
    Check(#[from] CheckError),
}
