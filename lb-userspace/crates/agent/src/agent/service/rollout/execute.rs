//! Carrying a rollout out: journal, then do, then ask what follows.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;
use tracing::Instrument as _;

use super::{
    super::{Now, Reporter, VerbError, broken::unbroken, seats::Ended},
    Rollouts,
    hooks::{Hooks, Occasion},
    minutes::Minutes,
    plan::{Intent, Interrupt, Plan},
    report::Report,
    wanted::Wanted,
};
use crate::{
    agent::drill,
    api::wire::Done,
    clock,
    rollout::{Course, Effect, Event, Phase, step, work},
    store::journal::{End, Entry, NewRollout, Outcome, Record, RolloutId, RolloutKind},
};

/// Carries one rollout out.
pub(super) struct Executor {
    pub(super) rollouts: Arc<Rollouts>,
    token: u64,
    pub(super) plan: Plan,
    pub(super) course: Course,
    pub(super) reporter: Reporter,
    pub(super) minutes: Minutes,
    pub(super) wanted: Wanted,
    seen: watch::Sender<Phase>,
    /// When it was asked for.
    pub(super) began: Instant,
    /// What an earlier agent journaled of it.
    past: Vec<Entry>,
    /// Why it is undone.
    failure: Option<VerbError>,
    pub(super) done: Done,
}

/// What the journal knows of a rollout when somebody begins to carry it out.
pub(super) enum Known {
    /// Nothing: it is told this first.
    New(NewRollout),
    /// What an earlier agent wrote down, since the phase began in which it ended.
    Before(RolloutId, Vec<Entry>),
}

impl Known {
    /// How the journal calls it, if it does.
    pub(super) fn id(&self) -> Option<RolloutId> {
        match self {
            Self::New(_) => None,
            Self::Before(id, _) => Some(*id),
        }
    }
}

impl Executor {
    /// One that nobody listens to, of the rollout that is `token` in the registry. It hears in
    /// `wanted` what others want, and tells in `seen` where it stands.
    pub(super) fn new(
        rollouts: &Arc<Rollouts>,
        token: u64,
        (plan, course): (Plan, Course),
        known: Known,
        wanted: Wanted,
        seen: watch::Sender<Phase>,
    ) -> Self {
        let starts = plan.start.is_some();
        let (minutes, past) = match known {
            Known::New(new) => (Minutes::begin(rollouts, token, new, starts), Vec::new()),
            Known::Before(id, past) => (Minutes::go_on(rollouts, token, id, starts), past),
        };
        Self {
            rollouts: Arc::clone(rollouts),
            token,
            plan,
            course,
            reporter: Reporter::silent(),
            minutes,
            wanted,
            seen,
            began: clock::now(),
            past,
            failure: None,
            done: Done::default(),
        }
    }

    /// The same for somebody who asked for it at `began`, is told of it, and is answered `done`
    /// if all goes well.
    pub(super) fn asked_for(self, reporter: &Reporter, began: Instant, done: Done) -> Self {
        Self {
            reporter: reporter.clone(),
            began,
            done,
            ..self
        }
    }

    /// What is answered to somebody who does not wait for the end.
    pub(super) fn promises(&self) -> Done {
        self.done.clone()
    }

    /// Hears where it stands.
    pub(super) fn seen(&self) -> watch::Receiver<Phase> {
        self.seen.subscribe()
    }

    /// Carries it out from the phase it stands in; returns when it is over.
    pub(super) async fn run(self) -> Result<Done, VerbError> {
        let (span, rollouts, token) = (self.log_span(), Arc::clone(&self.rollouts), self.token);
        let carrying = Box::pin(self.carry_out().instrument(span));
        match unbroken(carrying).await {
            Ok(result) => result,
            Err(broken) => Err(rollouts.rollout_broke(token, broken).await),
        }
    }

    /// What every line of the log has that is written on the way. Of the highest level, so that no
    /// filter takes it from the lines that are let through.
    fn log_span(&self) -> tracing::Span {
        tracing::error_span!(
            "rollout",
            service = self.rollouts.name(),
            rollout = self.minutes.id().map(tracing::field::display),
            trace_id = self.plan.trace,
        )
    }

    async fn carry_out(mut self) -> Result<Done, VerbError> {
        let mut effects = work(self.course.phase);
        while !self.course.phase.is_over() {
            let mut event = self.advance_unbroken(effects).await;
            if event.is_none() && matches!(self.course.phase, Phase::RollingBack | Phase::Drain) {
                // Nothing undoes these, and each effect looks first what has been done.
                event = self.advance_unbroken(effects).await;
            }
            let event = event.unwrap_or(Event::Failed);
            (self.course, effects) = step(self.course, event);
            self.past.clear();
        }
        self.rollouts.leave_nothing_starting(&self.plan).await;
        self.close().await;
        self.say_who_is_active().await;
        match self.failure {
            // The candidate is active for good: what broke concerns the former one.
            Some(failure) if self.course.phase == Phase::Done => {
                self.done.warnings.push(failure.summary());
                Ok(self.done)
            }
            Some(failure) => Err(failure),
            None => Ok(self.done),
        }
    }

    /// [`Executor::advance`]; `None` if it broke.
    async fn advance_unbroken(&mut self, effects: &[Effect]) -> Option<Event> {
        match unbroken(Box::pin(self.advance(effects))).await {
            Ok(event) => Some(event),
            Err(broken) => {
                let what = format!("{} in phase {}", self.name(), self.course.phase.name());
                self.failed(broken.of_verb(what));
                None
            }
        }
    }

    /// Begins the phase and does its work; what came of it.
    async fn advance(&mut self, effects: &[Effect]) -> Event {
        match self.enter().await {
            Ok(()) => self.work(effects).await,
            Err(error) => self.failed(error),
        }
    }

    /// A bake that failed leads back, unless nobody is left to go back to.
    async fn say_who_is_active(&mut self) {
        let parked = self.plan.parked;
        let now = match &mut self.failure {
            Some(VerbError::BakeFailed { now, .. }) => now,
            // The former one had ended before the candidate was started.
            Some(VerbError::NeverReady { now, .. }) if parked => now,
            _ => return,
        };
        let registry = self.rollouts.state.lock().await;
        *now = match self.rollouts.path.word().active {
            Some(active) => {
                let who = registry.name_of(active);
                Now::Back(match self.done.warnings.first() {
                    Some(warning) => format!("{who} is active ({warning})"),
                    None => format!("{who} is active"),
                })
            }
            None => Now::Nobody(self.rollouts.path.live(None)),
        };
    }

    /// An earlier agent's rollout, found again.
    pub(super) async fn resume(self, swapped: bool) -> Result<Done, VerbError> {
        let (span, rollouts, token) = (self.log_span(), Arc::clone(&self.rollouts), self.token);
        let carrying = Box::pin(self.carry_on(swapped).instrument(span));
        match unbroken(carrying).await {
            Ok(result) => result,
            Err(broken) => Err(rollouts.rollout_broke(token, broken).await),
        }
    }

    async fn carry_on(mut self, swapped: bool) -> Result<Done, VerbError> {
        let (course, _) = step(self.course, Event::Resumed { swapped });
        if course.phase != self.course.phase {
            self.past.clear();
            let phase = self.course.phase.name();
            let reason = format!("the agent was restarted during {phase}");
            self.failed(VerbError::CalledOff {
                rollout: self.name(),
                reason,
            });
        }
        self.course = course;
        Box::pin(self.carry_out()).await
    }

    /// How it is called.
    pub(super) fn name(&self) -> String {
        self.minutes.name()
    }

    /// Says that the phase begins, and writes that down before anything is done. Only before the
    /// word has moved is a journal that cannot be written a reason to give up.
    async fn enter(&mut self) -> Result<(), VerbError> {
        let phase = self.course.phase;
        if phase == Phase::Bake {
            self.bake_until();
        }
        self.rollouts
            .rollout_enters(self.token, phase, &self.plan)
            .await;
        self.report()
            .only_waits(phase, self.minutes.id(), &self.done)
            .await;
        // Nobody may wait for it.
        self.seen.send_replace(phase);
        let record = self.phase_record();
        self.minutes.later(record);
        tracing::info!(
            phase = phase.name(),
            attempt = self.course.attempt,
            "phase begins"
        );
        if !self.changes_anything(phase) {
            return Ok(());
        }
        match self.minutes.flush(phase).await {
            Err(error) if phase <= Phase::Swap => Err(error),
            Err(error) => {
                tracing::error!(%error, "failed to record the phase in the journal");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Where it stands, and everything that is needed to go on from there.
    fn phase_record(&self) -> Record {
        let intent = Intent {
            plan: self.plan.clone(),
            course: self.course,
        };
        Record::Phase {
            phase: self.course.phase,
            attempt: self.course.attempt,
            state: serde_json::to_value(&intent).unwrap_or_default(),
        }
    }

    /// Whether the phase does something that a later agent would have to know of. Each write
    /// waits for the disk.
    fn changes_anything(&self, phase: Phase) -> bool {
        let has_hooks = self
            .plan
            .hooks
            .iter()
            .any(|hook| Phase::from(hook.phase) == phase);
        match phase {
            Phase::PreLoad => has_hooks || self.plan.start.is_some(),
            Phase::Validate | Phase::PostRollback => has_hooks,
            Phase::Bake => !self.plan.bake.is_zero(),
            Phase::Swap | Phase::Drain | Phase::RollingBack => true,
            Phase::Done | Phase::RolledBack => false,
        }
    }

    /// Does what the phase is about, until that fails or somebody wants something else.
    async fn work(&mut self, effects: &[Effect]) -> Event {
        drill::point(self.course.phase.name());
        for &effect in effects {
            if let Some(interrupt) = self.wanted.at(self.course) {
                return self.heed(interrupt);
            }
            if let Err(error) = self.effect(effect).await {
                return match self.wanted.at(self.course) {
                    Some(interrupt) => self.heed(interrupt),
                    None => self.failed(error),
                };
            }
        }
        Event::Passed
    }

    async fn effect(&mut self, effect: Effect) -> Result<(), VerbError> {
        match effect {
            Effect::Hooks(phase) => self.hooks(phase).await,
            Effect::Load => self.load().await,
            Effect::Probe => self.probe().await,
            Effect::Store => self.store().await,
            Effect::Verify => self.verify().await,
            Effect::Watch => self.watch().await,
            Effect::Drain => self.drain().await,
            Effect::StoreBack => self.store_back().await,
            Effect::Discard => self.discard().await,
            Effect::Close => Ok(()),
        }
    }

    fn heed(&mut self, interrupt: Interrupt) -> Event {
        if interrupt.event == Event::Undo {
            self.failed(VerbError::CalledOff {
                rollout: self.name(),
                reason: interrupt.reason,
            });
        } else {
            self.plan.reason = Some(interrupt.reason);
        }
        interrupt.event
    }

    /// Remembers the first thing that failed: that is why the rollout is undone.
    fn failed(&mut self, error: VerbError) -> Event {
        tracing::warn!(phase = self.course.phase.name(), %error, "failed to complete a phase");
        if self.course.phase == Phase::PostRollback {
            // The word is back where it was; the hook's end is in the history.
            self.reporter.step(error.summary());
            return Event::Failed;
        }
        if self.failure.is_none() {
            self.plan.reason = Some(error.summary());
            self.failure = Some(error);
        }
        Event::Failed
    }

    /// Writes down what nobody waits for.
    pub(super) async fn note(&mut self, record: Record) {
        self.minutes.note(self.course.phase, record).await;
    }

    /// Runs the phase's hooks.
    async fn hooks(&mut self, phase: Phase) -> Result<(), VerbError> {
        let Self {
            rollouts,
            plan,
            course,
            reporter,
            wanted,
            minutes,
            past,
            ..
        } = self;
        let occasion = Occasion {
            rollouts,
            plan,
            course: *course,
            reporter,
            wanted,
        };
        Hooks::new(occasion, past, minutes).run(phase).await
    }

    fn report(&self) -> Report<'_> {
        Report::new(&self.rollouts, &self.plan, &self.reporter)
    }

    async fn close(&mut self) {
        let outcome = match (self.course.phase, self.plan.kind) {
            (Phase::Done, _) => Outcome::Done,
            (_, RolloutKind::Rollback) if self.failure.is_some() => Outcome::Refused,
            _ => Outcome::RolledBack,
        };
        let end = End {
            outcome,
            reason: self.plan.reason.clone(),
        };
        tracing::info!(
            outcome = end.outcome.name(),
            reason = end.reason,
            "rollout is over"
        );
        let losses = self.report().losses().await;
        self.minutes.later(losses);
        let refused = matches!(self.failure, Some(VerbError::Unjournaled(_)));
        let stands = self.phase_record();
        let phase = self.course.phase;
        self.minutes.end(phase, stands, refused, end).await;
        let ended = Ended {
            kind: self.plan.kind,
            outcome,
            took: self.began.elapsed(),
            steered: self.done.steered_us.map(Duration::from_micros),
            trace: self.plan.recorded_trace().map(str::to_owned),
        };
        self.rollouts
            .state
            .change(|registry| {
                self.rollouts.seats.end_traced(registry, &self.plan);
            })
            .await;
        self.report().rollout_stats(ended).await;
        self.rollouts.rollout_is_over(self.token).await;
        self.seen.send_replace(self.course.phase);
        self.done.rollout = self.minutes.id().map(|id| id.to_string());
    }
}
