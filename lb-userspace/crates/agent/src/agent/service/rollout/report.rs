//! What a rollout says of the generation it replaced.

use lb_common::GenerationId;

use super::{
    super::{Reporter, pace::Pace, seats::Ended},
    Plan, Rollouts,
    minutes::Minutes,
};
use crate::{
    api::wire::Done,
    clock::{self, Deadline},
    rollout::{GenerationState, Phase},
    store::{
        LastRollout,
        journal::{CutConnection, Outcome, Record, RolloutId},
    },
};

/// How long the connections of a generation that has no process left may take to end.
const LAST_ENDS: std::time::Duration = std::time::Duration::from_secs(2);
/// How long a drain is waited for at a time.
const LOOK: std::time::Duration = std::time::Duration::from_hours(24);

/// What is said of a rollout, and counted.
pub(super) struct Report<'a> {
    rollouts: &'a Rollouts,
    plan: &'a Plan,
    reporter: &'a Reporter,
}

impl<'a> Report<'a> {
    pub(super) fn new(rollouts: &'a Rollouts, plan: &'a Plan, reporter: &'a Reporter) -> Self {
        Self {
            rollouts,
            plan,
            reporter,
        }
    }

    /// From the bake on any agent goes on with it: says what to answer if that happens.
    pub(super) async fn only_waits(&self, phase: Phase, id: Option<RolloutId>, done: &Done) {
        let bakes = phase == Phase::Bake && !self.plan.bake.is_zero();
        if !bakes && phase != Phase::Drain {
            return;
        }
        let former = match self.plan.from().filter(|_| !bakes) {
            Some(former) => Some(
                self.rollouts
                    .state
                    .look(|registry| registry.name_of(former))
                    .await,
            ),
            None => None,
        };
        let message = &done.message;
        self.reporter.only_waits(&Done {
            message: match &former {
                Some(former) => format!("{message}, {former} is still draining"),
                None => format!("{message}; the rollout continues: see `hotlb status`"),
            },
            rollout: id.map(|id| id.to_string()),
            former,
            ..done.clone()
        });
    }

    /// What was lost by it.
    pub(super) async fn losses(&self) -> Record {
        self.await_last_ends().await;
        let registry = self.rollouts.state.lock().await;
        let lost = self.rollouts.lost_in(&registry, self.plan);
        Record::Lost {
            lost: lost.since(self.plan.lost_before),
        }
    }

    /// Waits until the connections of those that ended are gone: what `io_uring`, or a message in a
    /// unix socket, has open is closed after the process.
    async fn await_last_ends(&self) {
        let mut pace = Pace::until(Deadline::after(LAST_ENDS));
        loop {
            let is_left = self
                .rollouts
                .state
                .look(|registry| {
                    let ended = self.plan.both().filter_map(|id| registry.get(id));
                    let mut ended = ended.filter(|g| !g.state().is_live());
                    ended.any(|g| self.rollouts.path.live(Some(g.id())) > 0)
                })
                .await;
            if !is_left || !self.rollouts.state.look_again(&mut pace).await {
                return;
            }
        }
    }

    /// Waits until the former generation is drained, saying how far it is, and writes down what
    /// was cut.
    pub(super) async fn await_drain(
        &self,
        former: GenerationId,
        phase: Phase,
        minutes: &mut Minutes,
        done: &mut Done,
    ) {
        let name = match self.plan.to() {
            Some(to) => {
                self.rollouts
                    .state
                    .look(|registry| registry.name_of(to))
                    .await
            }
            None => String::new(),
        };
        let former_name = self
            .rollouts
            .state
            .look(|registry| registry.name_of(former))
            .await;
        let began = clock::now();
        let mut pace = Pace::until(Deadline::after(LOOK));
        let drained = loop {
            if let Some(outcome) = self.rollouts.drain_outcome(former).await {
                break outcome;
            }
            let step = format!("{name} is active; {former_name} is draining");
            let left = self.rollouts.path.live(Some(former));
            self.reporter.remaining(step, left);
            self.rollouts.state.look_again(&mut pace).await;
        };
        let figure = Record::Figure {
            name: format!("drain of {former_name}"),
            value: began.elapsed().as_secs_f64() * 1000.0,
            unit: "ms".to_owned(),
        };
        minutes.note(phase, figure).await;
        if let Some(text) = drained.signal_cut.clone() {
            let text = format!("{former_name}: {text}");
            minutes.note(phase, Record::Note { text }).await;
        }
        done.cut = drained.cut_count;
        done.message = drained.message(&name, &former_name);
        if !drained.cut.is_empty() {
            let connections = drained.cut;
            minutes.note(phase, Record::Cut { connections }).await;
        }
        done.former = Some(former_name);
    }

    /// Counts a rollout that is over. An agent that is killed between this and the journal's note
    /// of the end leaves one of them undone: the count is of what the agents saw to the end.
    pub(super) async fn rollout_stats(&self, ended: Ended) {
        let last = LastRollout {
            done: ended.outcome == Outcome::Done,
            took: ended.took,
            ended_ms: clock::unix_millis(),
        };
        let mut registry = self.rollouts.state.lock().await;
        registry.sums_mut().rollout_stats_mut().rollout(
            ended.kind,
            ended.outcome,
            last,
            ended.steered.map(|took| (took, ended.trace)),
        );
        self.rollouts.state.settle(&registry);
    }
}

/// How a drain ended.
pub(in crate::agent::service) struct Drained {
    pub(in crate::agent::service) state: GenerationState,
    pub(in crate::agent::service) reason: Option<String>,
    pub(in crate::agent::service) cut: Vec<CutConnection>,
    pub(in crate::agent::service) cut_count: Option<u64>,
    /// What its signal cut.
    pub(in crate::agent::service) signal_cut: Option<String>,
}

impl Drained {
    /// In words.
    pub(in crate::agent::service) fn message(&self, active: &str, former: &str) -> String {
        let reason = self.reason.as_deref();
        let reason = reason.map_or_else(String::new, |reason| format!(" ({reason})"));
        format!(
            "{active} is active, {former} is {}{reason}",
            self.state.name()
        )
    }
}
