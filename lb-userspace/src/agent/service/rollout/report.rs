//! What a rollout says of the generation it replaced.

use lb_common::GenerationId;

use super::{
    super::{Service, books::Books, pace::Pace, view::accounting},
    execute::Executor,
    plan::Plan,
};
use crate::{
    api::wire::Done,
    clock::Deadline,
    datapath::Losses,
    rollout::{GenerationState, Phase},
    store::journal::{CutConnection, Record},
};

/// How long the connections of a generation that has no process left may take to end.
const LAST_ENDS: std::time::Duration = std::time::Duration::from_secs(2);
/// How long a drain is waited for at a time.
const LOOK: std::time::Duration = std::time::Duration::from_hours(24);

impl Executor {
    /// From the bake on any agent goes on with it: says what to answer if that happens.
    pub(super) async fn only_waits(&self) {
        let bakes = self.course.phase == Phase::Bake && !self.plan.bake.is_zero();
        if !bakes && self.course.phase != Phase::Drain {
            return;
        }
        let former = match self.plan.from().filter(|_| !bakes) {
            Some(former) => Some(self.service.state.look(|books| books.name_of(former)).await),
            None => None,
        };
        let message = &self.done.message;
        self.reporter.only_waits(&Done {
            message: match &former {
                Some(former) => format!("{message}, {former} is still draining"),
                None => format!("{message}; the rollout continues: see `hotlb status`"),
            },
            rollout: self.id.map(|id| id.to_string()),
            former,
            ..self.done.clone()
        });
    }

    /// What was lost by it.
    pub(super) async fn losses(&self) -> Record {
        self.await_last_ends().await;
        let books = self.service.state.lock().await;
        let lost = self.service.lost_in(&books, &self.plan);
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
                .service
                .state
                .look(|books| {
                    let ended = self.plan.both().filter_map(|id| books.get(id));
                    let mut ended = ended.filter(|g| !g.state.is_live());
                    ended.any(|g| self.service.path.live(Some(g.id)) > 0)
                })
                .await;
            if !is_left || !self.service.state.look_again(&mut pace).await {
                return;
            }
        }
    }

    /// Waits until the former generation is drained, saying how far it is, and writes down what
    /// was cut.
    pub(super) async fn await_drain(&mut self, former: GenerationId) {
        let name = match self.plan.to() {
            Some(to) => self.service.state.look(|books| books.name_of(to)).await,
            None => String::new(),
        };
        let former_name = self.service.state.look(|books| books.name_of(former)).await;
        let began = crate::clock::now();
        let mut pace = Pace::until(Deadline::after(LOOK));
        let drained = loop {
            if let Some(outcome) = self.service.drain_outcome(former).await {
                break outcome;
            }
            let step = format!("{name} is active; {former_name} is draining");
            let left = self.service.path.live(Some(former));
            self.reporter.remaining(step, left);
            self.service.state.look_again(&mut pace).await;
        };
        self.note(Record::Figure {
            name: format!("drain of {former_name}"),
            value: began.elapsed().as_secs_f64() * 1000.0,
            unit: "ms".to_owned(),
        })
        .await;
        if let Some(text) = drained.signal_cut.clone() {
            let text = format!("{former_name}: {text}");
            self.note(Record::Note { text }).await;
        }
        self.done.cut = drained.cut_count;
        self.done.message = drained.message(&name, &former_name);
        if !drained.cut.is_empty() {
            self.note(Record::Cut {
                connections: drained.cut,
            })
            .await;
        }
        self.done.former = Some(former_name);
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
    pub(super) fn message(&self, active: &str, former: &str) -> String {
        let reason = self.reason.as_deref();
        let reason = reason.map_or_else(String::new, |reason| format!(" ({reason})"));
        format!(
            "{active} is active, {former} is {}{reason}",
            self.state.name()
        )
    }
}

impl Service {
    /// What clients did not get all from, of the plan's generations and while nobody was active,
    /// since these began.
    pub(super) fn lost_in(&self, books: &Books, plan: &Plan) -> Losses {
        let generations = plan.both().filter_map(|id| books.get(id));
        generations
            .map(|generation| accounting::connections(&self.path, generation).lost)
            .fold(self.path.connections(None).lost, Losses::plus)
    }

    /// How a generation was drained, once it is.
    pub(super) async fn drain_outcome(&self, id: GenerationId) -> Option<Drained> {
        let books = self.state.lock().await;
        let Some(generation) = books.get(id) else {
            // Another of its name took its place.
            return Some(Drained {
                state: GenerationState::Stopped,
                reason: None,
                cut: Vec::new(),
                cut_count: None,
                signal_cut: None,
            });
        };
        match generation.state {
            GenerationState::Draining | GenerationState::Stopping => None,
            state => Some(Drained {
                state,
                reason: generation.reason.clone(),
                cut: generation.cut_list.clone(),
                cut_count: generation.cut,
                signal_cut: generation.signal_cut.clone(),
            }),
        }
    }
}
