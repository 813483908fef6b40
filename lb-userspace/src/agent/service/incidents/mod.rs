//! The two stages of finding incidents: each second every generation's window is scored, and the
//! few unusual ones are looked at closely.

mod capture;
mod listeners;
mod slowest;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use lb_common::GenerationId;

use super::{Service, books::Generation};
use crate::{
    api::wire::{ScoredWindow, Windows},
    clock,
    incident::{Reading, Screen, Screened, Summary, Verdict, Window},
    rollout::GenerationState,
    store::WindowCounts,
    sys::cgroup::Cgroup,
};

use self::listeners::Listeners;

/// How often there is a window.
pub(super) const EACH: Duration = Duration::from_secs(1);
/// How long `status` tells of an incident.
const FRESH: Duration = Duration::from_mins(15);

/// What is known of a service's windows.
#[derive(Debug, Default)]
pub(super) struct Incidents {
    screen: Mutex<Screen>,
    /// The newest incident of this agent.
    latest: Mutex<Option<Summary>>,
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
}

impl Service {
    /// The first stage, once a second: reads what the kernel counted, and nothing else.
    pub(super) async fn screen(self: &Arc<Self>) {
        if !self.config.incidents.enabled {
            return;
        }
        let subjects = self.subjects().await;
        let began = clock::now();
        let screened = self.score(&subjects);
        let took = clock::now().saturating_duration_since(began);
        if screened.is_empty() {
            return;
        }
        let mut counts = WindowCounts {
            took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            ..WindowCounts::default()
        };
        for window in screened {
            match window.verdict {
                Verdict::Unscored => counts.unscored += 1,
                Verdict::Dropped => counts.dropped += 1,
                Verdict::Held(_) => counts.held += 1,
                Verdict::Capture => {
                    counts.captured += 1;
                    tokio::spawn(Arc::clone(self).capture(window));
                }
            }
        }
        self.books.lock().await.tally.windows.add(counts);
    }

    /// Those that may have clients.
    async fn subjects(&self) -> Vec<Subject> {
        let has_clients = |generation: &&Generation| {
            let works = matches!(
                generation.state,
                GenerationState::Ready | GenerationState::Active | GenerationState::Draining
            );
            works && !generation.unseated
        };
        let books = self.books.lock().await;
        let generations = books.generations.iter().filter(has_clients);
        let subject = |generation: &Generation| Subject {
            id: generation.id,
            name: generation.name.clone(),
            cgroup: generation.cgroup.clone(),
        };
        generations.map(subject).collect()
    }

    fn score(&self, subjects: &[Subject]) -> Vec<Screened> {
        let mut screen = self.incidents.screen();
        screen.retain(|id| subjects.iter().any(|subject| subject.id.raw() == id));
        if subjects.is_empty() {
            return Vec::new();
        }
        let (now, at_ms) = (clock::since_boot(), clock::unix_millis());
        let listeners = Listeners::lately(&self.netns);
        let mut windows = Vec::with_capacity(subjects.len());
        for subject in subjects {
            let id = subject.id.raw();
            let reading = self.reading(subject, &listeners, now);
            let Some(mut window) = screen.window(id, &subject.name, reading, at_ms) else {
                continue;
            };
            if screen.is_silent(id, &window) {
                window.unread = self.count_unread(subject, &window);
            }
            windows.push((id, subject.name.as_str(), window));
        }
        screen.judge(&windows, &self.config.incidents.limits, now)
    }

    fn reading(&self, subject: &Subject, listeners: &Listeners, now: Duration) -> Reading {
        let latencies = self.path.latencies(Some(subject.id));
        let (queue, dropped) = listeners.of(&subject.cgroup);
        Reading {
            at: now,
            connections: self.path.connections(Some(subject.id)),
            queue_wait: latencies.queue_wait,
            service_time: latencies.service_time,
            cpu: subject.cgroup.cpu_time(),
            dropped,
            queue,
        }
    }

    /// The newest windows of all generations, and their scores.
    pub fn windows(&self) -> Windows {
        let screen = self.incidents.screen();
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
            service: self.name().to_owned(),
            windows,
        }
    }
}
