//! Promote and upgrade: a rollout begins.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use lb_common::GenerationId;
use tokio::{sync::watch, task::JoinHandle};

use super::{
    super::{
        Caller, Context, Reporter, VerbError,
        again::Again,
        checks::Checks,
        deploy::Deploys,
        find::named,
        lives::{Lives, refuse_unpromotable},
        pace::Pace,
        parking::Parking,
        ports::ForeignPorts,
        registry::Registry,
        seats::Seats,
        shared::SharedState,
        view::accounting,
    },
    Rollouts,
    execute::{Executor, Known},
    plan::{InFlight, Interrupt, Plan},
    wanted::Wanted,
};
use crate::{
    api::wire::{Done, PromoteRequest, RolloutOptions, UpgradeRequest},
    clock::{self, Deadline},
    config::HandOver,
    datapath::Losses,
    rollout::{Course, Event, GenerationState, Phase},
    store::journal::{GenerationRef, NewRollout, RolloutId, RolloutKind, Who},
    sys::process,
};

/// Longest wait of a verb for the drain, beyond the drain's own deadlines.
pub(super) const SLACK: Duration = Duration::from_secs(10);
/// How long a verb waits for the one before it to have moved the word.
const MOMENT: Duration = Duration::from_secs(2);

/// Who asked for a rollout, when, and where they are told how it goes.
pub(super) struct Asked<'a> {
    who: Who,
    reporter: &'a Reporter,
    began: Instant,
}

impl<'a> Asked<'a> {
    pub(super) fn by(who: Who, reporter: &'a Reporter, began: Instant) -> Self {
        Self {
            who,
            reporter,
            began,
        }
    }
}

impl Rollouts {
    /// Those of a service.
    pub(in crate::agent::service) fn new(
        context: &Arc<Context>,
        state: &SharedState,
        parking: &Arc<Parking>,
        lives: &Arc<Lives>,
        deploys: &Arc<Deploys>,
    ) -> Self {
        Self {
            context: Arc::clone(context),
            state: state.clone(),
            parking: Arc::clone(parking),
            lives: Arc::clone(lives),
            deploys: Arc::clone(deploys),
            leaving: lives.leaving(),
            seats: Seats::new(context, state),
            checks: Checks::new(context, state, parking),
            ports: Arc::new(ForeignPorts::new(context, state, parking)),
        }
    }

    /// Makes a generation active; returns when the bake is over and the former one is drained.
    ///
    /// # Errors
    ///
    /// What made the rollout fail; everything is as it was before then.
    pub(in crate::agent::service) async fn promote(
        self: &Arc<Self>,
        request: PromoteRequest,
        caller: Caller,
        reporter: &Reporter,
    ) -> Result<Done, VerbError> {
        let began = clock::now();
        self.ports.refuse_while_held().await?;
        self.await_room().await;
        let executor = {
            let mut registry = self.state.lock().await;
            self.lives.catch_up(&mut registry);
            let id = named(self, &registry, &request.generation)?;
            refuse_unpromotable(&registry, id)?;
            Self::make_room(&registry)?;
            let plan = self.plan(RolloutKind::Promote, id, &request.options, &caller);
            self.register_rollout(
                &mut registry,
                plan,
                Phase::PreLoad,
                Asked::by(caller.who, reporter, began),
            )
        };
        self.carry_out(executor, request.options.no_wait).await
    }

    /// Starts a generation and makes it active.
    ///
    /// # Errors
    ///
    /// As [`Rollouts::promote`] and `deploy`.
    pub(in crate::agent::service) async fn upgrade(
        self: &Arc<Self>,
        request: UpgradeRequest,
        caller: Caller,
        reporter: &Reporter,
    ) -> Result<Done, VerbError> {
        let began = clock::now();
        self.ports.take_port().await?;
        self.await_room().await;
        let ends_first = {
            let registry = self.state.lock().await;
            Self::make_room(&registry)?;
            let active = self
                .path
                .word()
                .active
                .filter(|_| self.is_parked(&registry));
            active.and_then(|active| Again::after_all(&registry, active))
        };
        if let Some(again) = ends_first {
            again.refuse_last(request.anyway).await?;
        }
        let executor = {
            let mut registry = self.state.lock().await;
            Self::make_room(&registry)?;
            let id = self
                .deploys
                .enrol_in(&mut registry, &request.deploy, false)
                .await?;
            let mut plan = self.plan(RolloutKind::Upgrade, id, &request.options, &caller);
            plan.parked = self.is_parked(&registry);
            plan.anyway = request.anyway;
            plan.start = Some(request.deploy);
            self.register_rollout(
                &mut registry,
                plan,
                Phase::PreLoad,
                Asked::by(caller.who, reporter, began),
            )
        };
        self.carry_out(executor, request.options.no_wait).await
    }

    /// Whether a hand-over has clients wait.
    pub(super) fn is_parked(&self, registry: &Registry) -> bool {
        let alone = match self.config.hand_over {
            HandOver::Parked => true,
            HandOver::Auto => registry.runs_alone(),
            HandOver::Overlap | HandOver::Inherit => false,
        };
        alone && registry.all().any(|g| g.state() == GenerationState::Active)
    }

    fn plan(
        &self,
        kind: RolloutKind,
        to: GenerationId,
        options: &RolloutOptions,
        caller: &Caller,
    ) -> Plan {
        let mut hooks = self.config.hooks.clone();
        hooks.extend(options.hooks.iter().cloned());
        let from = self.path.word().active;
        let bake = options.bake_ms;
        Plan {
            bake: bake.map_or(self.config.bake, Duration::from_millis),
            keep: options.keep_ms.map(Duration::from_millis),
            ..Plan::new(kind, from, to, hooks, caller.parent.as_ref())
        }
    }

    /// A rollout whose word has moved, or moves back, gives way within moments.
    pub(super) async fn await_room(&self) {
        let mut pace = Pace::until(Deadline::after(MOMENT));
        loop {
            {
                let registry = self.state.lock().await;
                let moves = [Phase::Swap, Phase::RollingBack, Phase::PostRollback];
                let busy = registry.rollout();
                if !busy.is_some_and(|rollout| moves.contains(&rollout.phase)) {
                    return;
                }
            }
            if !self.state.look_again(&mut pace).await {
                return;
            }
        }
    }

    /// One rollout at a time, up to its drain; one that bakes gives way to the next.
    pub(super) fn make_room(registry: &Registry) -> Result<(), VerbError> {
        if registry.is_ending() {
            return Err(VerbError::GoingDown);
        }
        let Some(other) = registry.rollout() else {
            return Ok(());
        };
        if other.phase == Phase::Bake {
            return Ok(());
        }
        Err(VerbError::RolloutRuns {
            rollout: other.name(),
            phase: other.phase.name(),
        })
    }

    /// Enters a rollout into the registry, in the place of one that bakes.
    pub(super) fn register_rollout(
        self: &Arc<Self>,
        registry: &mut Registry,
        mut plan: Plan,
        phase: Phase,
        asked: Asked<'_>,
    ) -> Executor {
        plan.lost_before = self.lost_in(registry, &plan);
        self.seats.begin_traced(registry, &plan);
        if let Some(other) = registry.end_rollout() {
            let to = GenerationId::new(plan.to).map_or_else(String::new, |to| registry.name_of(to));
            // Its executor may have ended just now.
            other.interrupt.send_replace(Some(Interrupt {
                event: Event::Superseded,
                reason: format!("its bake was cut short: a promote of {to} was requested"),
            }));
        }
        let name = plan.to().map(|to| registry.name_of(to));
        let done = Done {
            message: name
                .as_ref()
                .map(|name| format!("{name} is active"))
                .unwrap_or_default(),
            generation: name,
            ..Done::default()
        };
        let known = Known::New(self.first_record(registry, &plan, asked.who));
        self.launch(registry, plan, Course::begin(phase), known)
            .asked_for(asked.reporter, asked.began, done)
    }

    /// Enters a rollout into the registry that stands at `course`, unless it has come to its drain, and
    /// gives who carries it out.
    pub(super) fn launch(
        self: &Arc<Self>,
        registry: &mut Registry,
        plan: Plan,
        course: Course,
        known: Known,
    ) -> Executor {
        let token = registry.next_token();
        let (interrupt, interrupted) = watch::channel(None);
        let (saw, seen) = watch::channel(course.phase);
        if course.phase != Phase::Drain {
            registry.begin_rollout(InFlight {
                token,
                id: known.id(),
                plan: plan.clone(),
                phase: course.phase,
                interrupt,
                seen,
            });
        }
        let wanted = Wanted::new(interrupted);
        Executor::new(self, token, (plan, course), known, wanted, saw)
    }

    /// Has a rollout carried out by a task of its own, and waits for it as long as was asked.
    async fn carry_out(
        self: &Arc<Self>,
        executor: Executor,
        no_wait: bool,
    ) -> Result<Done, VerbError> {
        let mut early = executor.promises();
        let mut seen = executor.seen();
        let mut task: JoinHandle<_> = tokio::spawn(executor.run());
        tokio::select! {
            result = &mut task => return self.joined(result),
            () = self.long_enough(&mut seen, no_wait) => {}
        }
        early.message = format!(
            "{}; the rollout continues: see `hotlb status`",
            early.message
        );
        Ok(early)
    }

    /// Waits until a verb has waited long enough.
    async fn long_enough(&self, seen: &mut watch::Receiver<Phase>, no_wait: bool) {
        let until = if no_wait { Phase::Bake } else { Phase::Drain };
        let came = seen.wait_for(|phase| (until..=Phase::Done).contains(phase));
        if came.await.is_err() || !no_wait {
            let policy = &self.config.drain;
            let longest = policy
                .long_lived
                .map_or(policy.deadline, |long| long.deadline.max(policy.deadline));
            let never = std::future::pending::<()>();
            let _over = tokio::time::timeout(longest.saturating_add(SLACK), never).await;
        }
    }

    pub(super) fn joined(
        &self,
        result: Result<Result<Done, VerbError>, tokio::task::JoinError>,
    ) -> Result<Done, VerbError> {
        result.unwrap_or_else(|error| {
            tracing::error!(service = self.name(), %error, "a bug aborted the task of a rollout");
            Err(VerbError::System {
                doing: "carry out the rollout",
                source: std::io::Error::other(error),
            })
        })
    }

    /// What the journal is told of a rollout before anything else.
    fn first_record(&self, registry: &Registry, plan: &Plan, who: Who) -> NewRollout {
        let reference = |id: GenerationId| GenerationRef {
            id: id.raw(),
            name: registry.name_of(id),
        };
        NewRollout {
            service: self.name().to_owned(),
            kind: plan.kind,
            from: plan.from().map(reference),
            to: plan.to().map_or_else(
                || GenerationRef {
                    id: 0,
                    name: String::new(),
                },
                reference,
            ),
            who,
            trace: plan.trace.clone(),
            boot: process::boot_id(),
        }
    }

    /// The journal has given a rollout its name.
    pub(super) async fn rollout_is_called(&self, token: u64, id: RolloutId) {
        let mut registry = self.state.lock().await;
        if let Some(rollout) = registry.rollout_of(token) {
            rollout.id = Some(id);
        }
    }

    /// A rollout enters a phase. From the drain on it is nobody's hindrance.
    pub(super) async fn rollout_enters(&self, token: u64, phase: Phase, plan: &Plan) {
        let mut registry = self.state.lock().await;
        if let Some(rollout) = registry.rollout_of(token) {
            rollout.phase = phase;
            rollout.plan = plan.clone();
            if phase == Phase::Drain {
                registry.end_rollout();
            }
        }
        self.state.ring();
    }

    /// A rollout is over.
    pub(super) async fn rollout_is_over(&self, token: u64) {
        let mut registry = self.state.lock().await;
        if registry.rollout_of(token).is_some() {
            registry.end_rollout();
        }
        self.state.ring();
    }

    /// What clients did not get all from, of the plan's generations and while nobody was active,
    /// since these began.
    pub(super) fn lost_in(&self, registry: &Registry, plan: &Plan) -> Losses {
        let generations = plan.both().filter_map(|id| registry.get(id));
        generations
            .map(|generation| accounting::connections(&self.path, generation).lost)
            .fold(self.path.connections(None).lost, Losses::plus)
    }
}
