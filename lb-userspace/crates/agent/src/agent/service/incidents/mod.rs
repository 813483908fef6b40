//! The two stages of finding incidents: each second every generation's window is scored, and the
//! few unusual ones are looked at closely.

mod capture;
mod listeners;
mod screening;
mod slowest;

pub(super) use screening::Screening;

use std::{
    sync::{self, Arc, MutexGuard, PoisonError},
    time::Duration,
};

use lb_common::GenerationId;

use listeners::Listeners;
use slowest::count_unread;

use super::{
    Context,
    beside::beside,
    registry::{Generation, Registry},
    shared::SharedState,
};
use crate::{
    api::wire::{ScoredWindow, Windows},
    clock,
    incident::{Reading, Screen, Screened, Summary, Verdict, Window},
    rollout::GenerationState,
    store::WindowCounts,
    sys::cgroup::Cgroup,
};

/// How often there is a window.
const EACH: Duration = Duration::from_secs(1);
/// How long `status` tells of an incident.
const FRESH: Duration = Duration::from_mins(15);

/// What is known of a service's windows.
#[derive(Debug, Default)]
pub(super) struct Incidents {
    screen: sync::Mutex<Screen>,
    /// The newest incident of this agent.
    latest: sync::Mutex<Option<Summary>>,
}

/// A generation that is looked at.
struct Subject {
    id: GenerationId,
    name: String,
    cgroup: Cgroup,
}

impl Incidents {
    fn screen(&self) -> MutexGuard<'_, Screen> {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn latest(&self) -> MutexGuard<'_, Option<Summary>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest incident, while it is fresh.
    pub(super) fn fresh(&self) -> Option<Summary> {
        let age = |summary: &Summary| clock::unix_millis().saturating_sub(summary.at_ms);
        let fresh = i64::try_from(clock::millis(FRESH)).unwrap_or(i64::MAX);
        self.latest().clone().filter(|latest| age(latest) < fresh)
    }

    /// The first stage, once a second: reads what the kernel counted, and nothing else. Says what is
    /// to be captured, each of which is to be reported by [`Incidents::captured`], and how many windows
    /// were judged how.
    async fn judge(
        self: &Arc<Self>,
        context: &Arc<Context>,
        state: &SharedState,
    ) -> (Vec<Screened>, Option<WindowCounts>) {
        if !context.config.incidents.enabled {
            return (Vec::new(), None);
        }
        let subjects = subjects(&*state.lock().await);
        let (screen, of) = (Arc::clone(self), Arc::clone(context));
        let scoring = beside(move || {
            let began = clock::now();
            let screened = screen.score(&of, &subjects);
            (screened, clock::now().saturating_duration_since(began))
        });
        let (screened, took) = scoring.await;
        let mut counts = WindowCounts {
            took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            ..WindowCounts::default()
        };
        for window in &screened {
            match window.verdict {
                Verdict::Unscored => counts.unscored += 1,
                Verdict::Dropped => counts.dropped += 1,
                Verdict::Held(_) => counts.held += 1,
                Verdict::Capture => counts.captured += 1,
            }
        }
        let counts = (!screened.is_empty()).then_some(counts);
        let unusual = screened.into_iter();
        let unusual = unusual.filter(|window| matches!(window.verdict, Verdict::Capture));
        (unusual.collect(), counts)
    }

    /// A capture is over, whatever came of it.
    fn captured(&self) {
        self.screen().captured(clock::since_boot());
    }

    fn score(&self, context: &Context, subjects: &[Subject]) -> Vec<Screened> {
        let is_subject = |id| subjects.iter().any(|subject| subject.id.raw() == id);
        self.screen().retain(is_subject);
        if subjects.is_empty() {
            return Vec::new();
        }
        let (now, at_ms) = (clock::since_boot(), clock::unix_millis());
        let listeners = Listeners::lately(&context.netns);
        let mut windows = Vec::with_capacity(subjects.len());
        for subject in subjects {
            let id = subject.id.raw();
            let reading = reading(context, subject, &listeners, now);
            let (window, is_silent) = {
                let mut screen = self.screen();
                let Some(window) = screen.window(id, &subject.name, reading, at_ms) else {
                    continue;
                };
                let is_silent = screen.is_silent(id, &window);
                (window, is_silent)
            };
            let unread = is_silent.then(|| count_unread(context, subject, &window));
            let window = Window {
                unread: unread.unwrap_or(window.unread),
                ..window
            };
            windows.push((id, subject.name.as_str(), window));
        }
        let limits = &context.config.incidents.limits;
        self.screen().judge(&windows, limits, now)
    }

    /// The newest windows of all generations, and their scores.
    pub(super) fn windows(&self, service: &str) -> Windows {
        let screen = self.screen();
        let mut windows = Vec::new();
        for (id, name) in screen.generations() {
            let newest = screen.newest(id, usize::MAX);
            let scored = |(window, score): (Window, Option<f64>)| ScoredWindow {
                generation: name.to_owned(),
                score,
                window,
            };
            windows.extend(newest.into_iter().map(scored));
        }
        windows.sort_by_key(|scored| scored.window.at_ms);
        Windows {
            service: service.to_owned(),
            windows,
        }
    }
}

/// Those that may have clients.
fn subjects(registry: &Registry) -> Vec<Subject> {
    let has_clients = |generation: &&Generation| {
        let works = matches!(
            generation.state(),
            GenerationState::Ready | GenerationState::Active | GenerationState::Draining
        );
        works && !generation.counts().is_unseated()
    };
    let generations = registry.all().filter(has_clients);
    let subject = |generation: &Generation| Subject {
        id: generation.id(),
        name: generation.name().to_owned(),
        cgroup: generation.cgroup().clone(),
    };
    generations.map(subject).collect()
}

fn reading(context: &Context, subject: &Subject, listeners: &Listeners, now: Duration) -> Reading {
    let latencies = context.path.latencies(Some(subject.id));
    let (queue, dropped) = listeners.of(&subject.cgroup);
    Reading {
        at: now,
        connections: context.path.connections(Some(subject.id)),
        queue_wait: latencies.queue_wait,
        service_time: latencies.service_time,
        cpu: subject.cgroup.cpu_time(),
        dropped,
        queue,
    }
}
