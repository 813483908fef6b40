//! Sampling that goes on while generations run, as the service's configuration says, and what is
//! kept of it: by a helper, which is started again when it ends.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io,
    sync::{self, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout},
    sync::{Mutex, mpsc, oneshot},
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    Context, VerbError,
    find::named,
    profile::{helper_command, refused},
    registry::Registry,
    shared::SharedState,
    view::accounting,
};
use crate::{
    api::wire::{KeptProfilesStatus, ProfileRequest},
    clock::{self, millis},
    config::KeptProfiles,
    datapath::ConnectionCounts,
    profile::{
        Exposure, Measure, Profile, Target, Unwind,
        helper::Answer,
        known_bugs,
        orders::{Command, Cost, Said, Standing, Task, Wanted},
    },
    sys::cgroup::Cgroup,
};

/// How often it is looked whether a generation has begun.
const LOOK: Duration = Duration::from_secs(1);
/// How often a helper is started at most.
const AGAIN: Duration = Duration::from_mins(1);
/// How long a helper may take to find names.
const GRACE: Duration = Duration::from_mins(2);
/// How often it is written down how many connections there were.
const COUNTS: Duration = Duration::from_secs(10);

/// What the service knows of it.
#[derive(Debug)]
pub(super) struct Desk {
    asks: mpsc::Sender<Ask>,
    asked: Mutex<mpsc::Receiver<Ask>>,
    state: sync::Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Whether there is a helper that can be asked.
    is_there: bool,
    runs: bool,
    /// Why it does not, or not any more.
    stopped: Option<String>,
    /// Of helpers that have ended, and of this one.
    before: Cost,
    cost: Cost,
    /// Connections of each generation at earlier moments, oldest first.
    counts: VecDeque<(Instant, HashMap<String, ConnectionCounts>)>,
}

#[derive(Debug)]
struct Ask {
    generations: Vec<String>,
    last_ms: u64,
    answer: oneshot::Sender<Answer>,
}

impl Default for Desk {
    fn default() -> Self {
        let (asks, asked) = mpsc::channel(4);
        Self {
            asks,
            asked: asked.into(),
            state: sync::Mutex::default(),
        }
    }
}

impl Desk {
    fn state(&self) -> sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what an ended helper said of itself, but for the sums, and why it stopped, if it said
    /// so.
    fn ended(&self, why: &str) {
        let mut state = self.state();
        state.is_there = false;
        state.runs = false;
        let cost = std::mem::take(&mut state.cost);
        state.before.cpu_ms += cost.cpu_ms;
        state.before.samples += cost.samples;
        state.stopped.get_or_insert_with(|| why.to_owned());
    }

    /// Samples as configured, until the task is ended.
    pub(super) async fn keep(&self, context: &Context, state: &SharedState) {
        let Some(kept) = context.config.profiles else {
            return std::future::pending().await;
        };
        let mut again = interval(AGAIN);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            again.tick().await;
            if let Some(bug) = known_bugs::on_this_host(Measure::Cpu, Unwind::Auto) {
                self.ended(&bug);
                return std::future::pending().await;
            }
            let why = match self.run_helper(context, state, kept).await {
                Ok(()) => "it ended".to_owned(),
                Err(error) => error.to_string(),
            };
            self.ended(&format!(
                "the sampling helper is gone ({why}); another one is started within a minute"
            ));
            tracing::warn!(
                service = context.name(),
                reason = self.state().stopped,
                "lost the sampling helper of continuous profiling"
            );
        }
    }

    async fn run_helper(
        &self,
        context: &Context,
        state: &SharedState,
        kept: KeptProfiles,
    ) -> io::Result<()> {
        let mut helper = Helper::start(&Task::Always(Standing {
            service: context.name().to_owned(),
            frequency: kept.frequency,
            keep_ms: millis(kept.keep),
        }))
        .await?;
        {
            let mut state = self.state();
            state.is_there = true;
            state.runs = true;
            state.stopped = None;
        }
        let mut asked = self.asked.lock().await;
        let mut waiting = HashMap::new();
        let mut id = 0;
        let mut begun = HashSet::new();
        let mut look = interval(LOOK);
        loop {
            tokio::select! {
                line = helper.says.next_line() => match line? {
                    Some(line) => self.heard(context, &line, &mut waiting),
                    None => return Ok(()),
                },
                Some(ask) = asked.recv() => {
                    id += 1;
                    helper.tell(&Command::Give(Wanted {
                        id,
                        generations: ask.generations,
                        last_ms: ask.last_ms,
                    })).await?;
                    waiting.insert(id, ask.answer);
                }
                _ = look.tick() => {
                    for target in self.begin(context, state, &mut begun, kept.keep).await {
                        helper.tell(&Command::Begin(target)).await?;
                    }
                }
            }
        }
    }

    fn heard(
        &self,
        context: &Context,
        line: &str,
        waiting: &mut HashMap<u64, oneshot::Sender<Answer>>,
    ) {
        match serde_json::from_str(line) {
            Ok(Said::Cost(cost)) => self.state().cost = cost,
            Ok(Said::Kept(id, answer)) => {
                // Whoever asked may have gone.
                let _gone = waiting.remove(&id).map(|asker| asker.send(answer));
            }
            Ok(Said::Stopped(reason)) => {
                tracing::warn!(
                    service = context.name(),
                    reason,
                    "continuous profiling stopped"
                );
                let mut state = self.state();
                state.runs = false;
                state.stopped = Some(reason);
            }
            Err(error) => tracing::warn!(%error, "failed to read a message of the sampling helper"),
        }
    }

    /// Generations that have begun to run, and are not in `begun` yet.
    async fn begin(
        &self,
        context: &Context,
        state: &SharedState,
        begun: &mut HashSet<String>,
        keep: Duration,
    ) -> Vec<Target> {
        let seen: Vec<_> = state
            .look(|registry| {
                let seen = registry.all().map(|generation| {
                    let counts = accounting::connections(&context.path, generation);
                    (
                        generation.name().to_owned(),
                        generation.own_cgroup(),
                        counts,
                    )
                });
                seen.collect()
            })
            .await;
        let mut targets = Vec::new();
        let mut counts = HashMap::new();
        for (name, cgroup, counted) in seen {
            counts.insert(name.clone(), counted);
            let Some(cgroup) = cgroup.filter(Cgroup::is_populated) else {
                begun.remove(&name);
                continue;
            };
            if begun.insert(name.clone()) {
                targets.push(Target {
                    generation: name,
                    cgroup: cgroup.path().to_owned(),
                });
            }
        }
        self.state().note(counts, keep);
        targets
    }

    /// What is kept of the last minutes.
    pub(super) async fn profile(
        &self,
        context: &Context,
        state: &SharedState,
        request: &ProfileRequest,
        last: Duration,
    ) -> Result<Profile, VerbError> {
        let kept = context.config.profiles.ok_or_else(|| {
            let message = format!(
                "service {} keeps no profiles; set continuous = \"19 Hz\" in [service.{}.profile], \
                 or sample now, without --last",
                context.name(),
                context.name()
            );
            refused("nothing_kept", message, 6)
        })?;
        if last > kept.keep || last.is_zero() {
            let message = format!(
                "--last may be up to {}: profiles are kept for that long",
                humantime::format_duration(kept.keep)
            );
            return Err(refused("bad_request", message, 2));
        }
        {
            let registry = state.lock().await;
            for name in &request.generations {
                named(context, &registry, name)?;
            }
        }
        let stopped = || {
            let state = self.state();
            let reason = state
                .stopped
                .clone()
                .unwrap_or_else(|| "sampling has only begun".to_owned());
            refused("nothing_kept", format!("no profile is kept: {reason}"), 1)
        };
        let (answer, answered) = oneshot::channel();
        let ask = Ask {
            generations: request.generations.clone(),
            last_ms: millis(last),
            answer,
        };
        if !self.state().is_there {
            return Err(stopped());
        }
        self.asks.try_send(ask).map_err(|_full| stopped())?;
        match timeout(GRACE, answered).await {
            Ok(Ok(Answer::Profile(mut profile))) => {
                self.add_exposure(context, &*state.lock().await, &mut profile, last);
                Ok(*profile)
            }
            Ok(Ok(Answer::Failed(failed))) => {
                Err(refused("nothing_kept", failed.message, failed.exit))
            }
            Ok(Err(_)) | Err(_) => Err(stopped()),
        }
    }

    fn add_exposure(
        &self,
        context: &Context,
        registry: &Registry,
        profile: &mut Profile,
        last: Duration,
    ) {
        let state = self.state();
        let since = state.counts.iter().find(|(at, _)| at.elapsed() <= last);
        for sampled in &mut profile.generations {
            let name = &sampled.generation;
            let now = registry
                .by_name(name)
                .map(|found| accounting::connections(&context.path, found));
            let before = since.and_then(|(_, counts)| counts.get(name)).copied();
            let before = before.unwrap_or_default();
            if let Some(now) = now {
                sampled.exposure = Exposure {
                    opened: now.opened.saturating_sub(before.opened),
                    live_twice: before.live + now.live,
                };
            }
        }
    }

    /// How it goes.
    pub(super) fn status(&self, kept: KeptProfiles) -> KeptProfilesStatus {
        let state = self.state();
        KeptProfilesStatus {
            frequency: kept.frequency,
            keep_ms: millis(kept.keep),
            runs: state.runs,
            stopped: state.stopped.clone(),
            cpu_ms: state.before.cpu_ms + state.cost.cpu_ms,
            memory_bytes: state.cost.memory_bytes,
            samples: state.before.samples + state.cost.samples,
        }
    }
}

impl State {
    fn note(&mut self, counts: HashMap<String, ConnectionCounts>, keep: Duration) {
        let newest = self.counts.back();
        if newest.is_none_or(|(at, _)| at.elapsed() >= COUNTS) {
            self.counts.push_back((clock::now(), counts));
        }
        while self
            .counts
            .front()
            .is_some_and(|(at, _)| at.elapsed() > keep)
        {
            self.counts.pop_front();
        }
    }
}

/// A helper; it is killed when this is dropped, and ends by itself when the agent does.
struct Helper {
    _child: Child,
    hears: ChildStdin,
    says: Lines<BufReader<ChildStdout>>,
}

impl Helper {
    async fn start(task: &Task) -> io::Result<Self> {
        let mut child = helper_command().spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (hears, stdout) = pipes.ok_or_else(|| io::Error::other("it has no pipes"))?;
        let mut helper = Self {
            _child: child,
            hears,
            says: BufReader::new(stdout).lines(),
        };
        helper.tell(task).await?;
        Ok(helper)
    }

    async fn tell(&mut self, what: &(impl serde::Serialize + Sync)) -> io::Result<()> {
        let mut line = serde_json::to_vec(what)?;
        line.push(b'\n');
        self.hears.write_all(&line).await
    }
}
