//! The second stage: a close look at a generation, for a few seconds.

use std::time::Duration;

use lb_common::GenerationId;
use tokio::time::{MissedTickBehavior, interval, timeout_at};

use super::{
    super::{Context, find::own_cgroup, profile::Profiler, shared::SharedState},
    Incidents,
    slowest::{MOST_LISTED, Slowest, detailed},
};
use crate::{
    api::wire::ProfileRequest,
    clock::{self, Deadline},
    incident::{Incident, IncidentId, Screened, SlowConnection, Summary, Window},
    profile::{Measure, Profile, Unwind},
    store::journal::{Record, RolloutId},
};

/// How long a look takes.
const LOOK: Duration = Duration::from_secs(3);
/// How often connections are listed meanwhile.
const LIST: Duration = Duration::from_millis(250);
/// Samples per second of CPU time.
const FREQUENCY: u32 = 499;
/// Windows before the unusual one that are kept, and all of them.
const BEFORE: usize = 10;
/// Slow connections that are kept.
const CONNECTIONS: usize = 20;

impl Incidents {
    /// Looks closely at what the first stage found. Says whether it was stored.
    pub(super) async fn capture(
        &self,
        context: &Context,
        state: &SharedState,
        profiler: &Profiler,
        found: Screened,
    ) -> bool {
        let Some(id) = GenerationId::new(found.id) else {
            return false;
        };
        let rollout = rollout_now(context).await;
        let began = clock::now();
        let mut notes = Vec::new();
        let ((connections, not_listed), stacks) = tokio::join!(
            slowest(context, state, id, found.window.live),
            stacks(context, state, profiler, &found)
        );
        notes.extend(not_listed);
        let profile = match stacks {
            Ok(profile) => Some(profile),
            Err(note) => {
                notes.push(note);
                None
            }
        };
        let took = clock::now().saturating_duration_since(began);
        let score = found.score.unwrap_or_else(|| crate::incident::Score {
            value: 0.0,
            reason: String::new(),
        });
        let beside = found.beside.as_ref();
        let incident = Incident {
            summary: Summary {
                id: IncidentId(0),
                service: context.name().to_owned(),
                generation: found.generation,
                at_ms: found.window.at_ms,
                score: score.value,
                reason: score.reason,
                rollout: rollout.map(|id| id.to_string()),
                bytes: 0,
            },
            windows: self.around(found.id, &found.window),
            beside_windows: beside
                .map_or_else(Vec::new, |(id, ..)| self.around(*id, &found.window)),
            beside: found.beside.map(|(_, name, _)| name),
            took_ms: clock::millis(took),
            connections,
            profile,
            notes,
        };
        self.store(context, incident, rollout).await
    }

    /// The windows around an unusual one.
    fn around(&self, id: u32, unusual: &Window) -> Vec<Window> {
        let newest = self.screen().newest(id, usize::MAX);
        let windows: Vec<Window> = newest.into_iter().map(|(window, _)| window).collect();
        let place = windows.partition_point(|window| window.at_ms < unusual.at_ms);
        let from = place.saturating_sub(BEFORE);
        windows.into_iter().skip(from).take(2 * BEFORE).collect()
    }

    async fn store(
        &self,
        context: &Context,
        incident: Incident,
        rollout: Option<RolloutId>,
    ) -> bool {
        let mut summary = incident.summary.clone();
        match context.journal.keep_incident(incident).await {
            Ok(id) => summary.id = id,
            Err(error) => {
                tracing::error!(service = context.name(), %error, "failed to store an incident");
                return false;
            }
        }
        let (id, generation) = (summary.id, summary.generation.as_str());
        tracing::warn!(
            service = context.name(),
            generation,
            incident = %id,
            score = summary.score,
            "captured an incident: {}",
            summary.reason
        );
        if let Some(rollout) = rollout {
            let text = format!(
                "incident {id} of {generation}: {} (score {:.2}); `hotlb incidents show {id}`",
                summary.reason, summary.score
            );
            if let Err(error) = context.journal.record(rollout, Record::Note { text }).await {
                tracing::warn!(
                    %error,
                    %rollout,
                    "failed to record an incident in the history of the rollout"
                );
            }
        }
        *self.latest() = Some(summary);
        true
    }
}

/// The rollout that goes on, its drain included.
async fn rollout_now(context: &Context) -> Option<RolloutId> {
    // In its drain only the journal knows it. Without one, no rollout is known either.
    let unfinished = context.journal.unfinished(context.name()).await;
    let newest = unfinished.ok().and_then(|mut all| all.pop());
    newest.map(|told| told.summary.id)
}

/// The slowest connections within [`LOOK`], or why they are not known.
async fn slowest(
    context: &Context,
    state: &SharedState,
    id: GenerationId,
    live: u64,
) -> (Vec<SlowConnection>, Option<String>) {
    if live > MOST_LISTED {
        let note = format!(
            "no list of the slowest connections: {live} were open, and the limit is \
             {MOST_LISTED}"
        );
        return (Vec::new(), Some(note));
    }
    let Some(cgroup) = own_cgroup(state, id).await else {
        return (Vec::new(), Some("the generation had ended".to_owned()));
    };
    let mut slowest = Slowest::default();
    let until = Deadline::after(LOOK).instant();
    let mut ticks = interval(LIST);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while timeout_at(until, ticks.tick()).await.is_ok() {
        slowest.add(&context.path, detailed(context, id, cgroup.clone()).await);
    }
    (slowest.into_slowest(CONNECTIONS), None)
}

/// Where CPU time goes meanwhile, or why that is not known.
async fn stacks(
    context: &Context,
    state: &SharedState,
    profiler: &Profiler,
    found: &Screened,
) -> Result<Profile, String> {
    if !context.config.incidents.stacks {
        return Err(
            "no stacks: the service does not set `incidents = { stacks = true }`".to_owned(),
        );
    }
    let beside = found.beside.iter().map(|(_, name, _)| name.clone());
    let request = ProfileRequest {
        generations: beside.chain([found.generation.clone()]).collect(),
        duration_ms: clock::millis(LOOK),
        measure: Measure::default(),
        frequency: FREQUENCY,
        unwind: Unwind::default(),
        last_ms: None,
        force: false,
    };
    let profile = profiler.profile(context, state, request).await;
    profile.map_err(|error| format!("no stacks: {error}"))
}
