//! What a rollout is to do: everything its executor needs to know, also after a restart.

use std::time::Duration;

use lb_common::GenerationId;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{
    api::wire::{DeployRequest, RolloutStatus},
    clock,
    config::Hook,
    datapath::Losses,
    lineage::{Lineage, TraceParent},
    rollout::{Course, Event, Phase},
    store::journal::{RolloutId, RolloutKind},
};

/// A rollout's plan. It is in the journal with each phase.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::agent::service) struct Plan {
    /// What was asked for.
    pub(in crate::agent::service) kind: RolloutKind,
    /// Who is active before it.
    pub(super) from: Option<u32>,
    /// Who is to be active after it.
    pub(super) to: u32,
    /// How the candidate is started, if this rollout does that.
    pub(super) start: Option<DeployRequest>,
    /// The server cannot run twice: the former one ends before the candidate starts.
    pub(super) parked: bool,
    /// The former one is ended although it could not be started again.
    #[serde(default)]
    pub(super) anyway: bool,
    /// How long the candidate is on probation.
    pub(super) bake: Duration,
    /// When that is over, in time since boot, once it has begun.
    pub(super) bake_until: Option<Duration>,
    /// How long the former generation is kept, if other than configured.
    pub(super) keep: Option<Duration>,
    /// The hooks, of all phases.
    pub(super) hooks: Vec<Hook>,
    /// The trace it belongs to: 32 hexadecimal digits.
    pub(super) trace: String,
    /// Its place in that trace.
    #[serde(default)]
    pub(super) lineage: Lineage,
    /// Why it is undone, if it is.
    pub(super) reason: Option<String>,
    /// What its two generations, and the parking listeners, had lost before it.
    #[serde(default)]
    pub(super) lost_before: Losses,
}

impl Plan {
    /// To make `to` active in the place of `from`, at once, within the trace of `parent` if there is one.
    pub(super) fn new(
        kind: RolloutKind,
        from: Option<GenerationId>,
        to: GenerationId,
        hooks: Vec<Hook>,
        parent: Option<&TraceParent>,
    ) -> Self {
        let (trace, lineage) = Lineage::begin(parent);
        Self {
            kind,
            from: from.map(GenerationId::raw),
            to: to.raw(),
            start: None,
            parked: false,
            anyway: false,
            bake: Duration::ZERO,
            bake_until: None,
            keep: None,
            hooks,
            trace,
            lineage,
            reason: None,
            lost_before: Losses::default(),
        }
    }

    /// Who is to be active.
    pub(super) fn to(&self) -> Option<GenerationId> {
        GenerationId::new(self.to)
    }

    /// Who is active before it.
    pub(super) fn from(&self) -> Option<GenerationId> {
        self.from.and_then(GenerationId::new)
    }

    /// Its trace, unless the caller wants nothing recorded.
    pub(in crate::agent::service) fn recorded_trace(&self) -> Option<&str> {
        self.lineage.is_sampled().then_some(&self.trace)
    }

    /// The two generations, as far as they are known.
    pub(in crate::agent::service) fn both(&self) -> impl Iterator<Item = GenerationId> {
        self.from().into_iter().chain(self.to())
    }

    /// Who is active when it has been rolled back. For a rollback that is its aim.
    pub(super) fn back(&self) -> Option<GenerationId> {
        match self.kind {
            RolloutKind::Rollback => self.to(),
            _ => self.from(),
        }
    }

    /// Who it gets rid of when it is rolled back.
    pub(super) fn away(&self) -> Option<GenerationId> {
        match self.kind {
            RolloutKind::Rollback => self.from(),
            _ => self.to(),
        }
    }
}

/// What the journal holds with each phase.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Intent {
    pub(super) plan: Plan,
    pub(super) course: Course,
}

/// Why an executor leaves what it is doing.
#[derive(Clone, Debug)]
pub(in crate::agent::service) struct Interrupt {
    pub(super) event: Event,
    pub(super) reason: String,
}

/// A rollout that has not come to its drain yet: a service has at most one.
#[derive(Debug)]
pub(in crate::agent::service) struct InFlight {
    /// Tells it from the next one.
    pub(super) token: u64,
    /// Its name, once the journal has given one.
    pub(in crate::agent::service) id: Option<RolloutId>,
    /// What was asked for.
    pub(in crate::agent::service) plan: Plan,
    /// Where it stands.
    pub(in crate::agent::service) phase: Phase,
    /// Has its executor leave what it is doing.
    pub(super) interrupt: watch::Sender<Option<Interrupt>>,
    /// Where its executor stands.
    pub(super) seen: watch::Receiver<Phase>,
}

impl InFlight {
    /// Whether it is the one with this token.
    pub(in crate::agent::service) fn is(&self, token: u64) -> bool {
        self.token == token
    }

    /// Has it undone, for `reason`; from the drain on that changes nothing.
    pub(in crate::agent::service) fn undo(&self, reason: impl Into<String>) {
        self.interrupt.send_replace(Some(Interrupt {
            event: Event::Undo,
            reason: reason.into(),
        }));
    }

    /// As `status` shows it; `name` names generations.
    pub(in crate::agent::service) fn status(
        &self,
        name: &impl Fn(GenerationId) -> String,
    ) -> RolloutStatus {
        let left = self
            .plan
            .bake_until
            .map(|until| until.saturating_sub(clock::since_boot()));
        RolloutStatus {
            id: self.id.map(|id| id.to_string()),
            kind: self.plan.kind.name().to_owned(),
            from: self.plan.from().map(name),
            to: self.plan.to().map(name),
            phase: self.phase,
            bake_left_ms: left
                .filter(|_| self.phase == Phase::Bake)
                .map(clock::millis),
        }
    }

    /// How it is called.
    pub(in crate::agent::service) fn name(&self) -> String {
        self.id
            .map_or_else(|| "a rollout".to_owned(), |id| format!("rollout {id}"))
    }
}
