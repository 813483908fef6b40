//! Where generations spend CPU time: asks a helper, and adds the connections they had meanwhile.

use std::{process::Stdio, time::Duration};

use tokio::{io::AsyncWriteExt as _, process::Command, sync::Mutex};

use super::{
    Context, VerbError,
    find::named,
    kept_profiles::Desk,
    registry::{Generation, Registry},
    shared::SharedState,
    view::accounting,
};
use crate::{
    api::wire::{KeptProfilesStatus, ProfileRequest},
    clock::Deadline,
    datapath::ConnectionCounts,
    profile::{
        DURATION, Exposure, FREQUENCY, Failed, Measure, Plan, Profile, Target, Unwind,
        helper::Answer, known_bugs, orders::Task,
    },
    sys::cgroup::Cgroup,
};

/// How long the helper may take beside the sampling: it reads programs, and finds names.
const GRACE: Duration = Duration::from_mins(2);

/// Samples generations, when somebody asks for it and all the time.
#[derive(Debug, Default)]
pub(super) struct Profiler {
    /// Held while a profile is made: there is one at a time.
    alone: Mutex<()>,
    /// Profiles that are kept.
    kept: Desk,
}

impl Profiler {
    /// Samples as the service is configured, until the task is ended.
    pub(super) async fn keep(&self, context: &Context, state: &SharedState) {
        self.kept.keep(context, state).await;
    }

    /// How that goes, if it is configured.
    pub(super) fn status(&self, context: &Context) -> Option<KeptProfilesStatus> {
        Some(self.kept.status(context.config.profiles?))
    }

    /// Samples one generation, or two at the same moment. Sampling ends when this is dropped.
    pub(super) async fn profile(
        &self,
        context: &Context,
        state: &SharedState,
        request: ProfileRequest,
    ) -> Result<Profile, VerbError> {
        if let Some(last) = request.last_ms {
            let last = Duration::from_millis(last);
            return self.kept.profile(context, state, &request, last).await;
        }
        check(&request)?;
        if !request.force
            && let Some(bug) = known_bugs::on_this_host(request.measure, request.unwind)
        {
            let message = format!("{bug}; use --force to sample anyway");
            return Err(refused("kernel_bug", message, 7));
        }
        let _alone = self.alone.try_lock().map_err(|_held| {
            let message = format!(
                "a profile of service {} is being made; wait for it, because two at once would \
                 measure each other",
                context.name()
            );
            refused("profile_runs", message, 6)
        })?;
        let (found, before) = state
            .look(|registry| {
                let names = &request.generations;
                (
                    found(context, registry, names),
                    counts_of(context, registry, names),
                )
            })
            .await;
        let plan = sampling_plan(context, &request, found)?;
        let mut profile = sample(&plan).await?;
        let after = counts_of(context, &*state.lock().await, &request.generations);
        for ((sampled, before), after) in profile.generations.iter_mut().zip(before).zip(after) {
            sampled.exposure = Exposure {
                opened: after.opened.saturating_sub(before.opened),
                live_twice: before.live + after.live,
            };
        }
        Ok(profile)
    }
}

/// Where the processes of each of these are.
fn found(
    context: &Context,
    registry: &Registry,
    names: &[String],
) -> Vec<Result<Option<Cgroup>, VerbError>> {
    let cgroup = |id| registry.get(id).and_then(Generation::own_cgroup);
    let found = |name: &String| named(context, registry, name).map(cgroup);
    names.iter().map(found).collect()
}

fn sampling_plan(
    context: &Context,
    request: &ProfileRequest,
    found: Vec<Result<Option<Cgroup>, VerbError>>,
) -> Result<Plan, VerbError> {
    let mut targets = Vec::new();
    for (name, cgroup) in request.generations.iter().zip(found) {
        let cgroup = cgroup?.filter(Cgroup::is_populated).ok_or_else(|| {
            let message = format!(
                "{name} has no process: nothing can be sampled; `hotlb status` shows which \
                 generations run"
            );
            refused("no_process", message, 6)
        })?;
        targets.push(Target {
            generation: name.clone(),
            cgroup: cgroup.path().to_owned(),
        });
    }
    Ok(Plan {
        service: context.name().to_owned(),
        targets,
        measure: request.measure,
        frequency: request.frequency,
        duration_ms: request.duration_ms,
        unwind: request.unwind,
        scope: None,
        room: None,
    })
}

fn counts_of(context: &Context, registry: &Registry, names: &[String]) -> Vec<ConnectionCounts> {
    let counts = |name: &String| {
        let generation = registry.by_name(name);
        generation.map_or_else(ConnectionCounts::default, |found| {
            accounting::connections(&context.path, found)
        })
    };
    names.iter().map(counts).collect()
}

async fn sample(plan: &Plan) -> Result<Profile, VerbError> {
    let duration = Duration::from_millis(plan.duration_ms);
    let asked = tokio::time::timeout_at(
        Deadline::after(duration.saturating_add(GRACE)).instant(),
        ask_helper(plan),
    );
    asked.await.map_err(|_late| {
        let message = format!(
            "the sampling helper had not ended {} after its time; it was killed",
            humantime::format_duration(GRACE)
        );
        refused("profile_failed", message, 1)
    })?
}

fn check(request: &ProfileRequest) -> Result<(), VerbError> {
    let usage = |message: String| Err(refused("bad_request", message, 2));
    if !matches!(request.generations.len(), 1 | 2) {
        return usage("name one generation to profile, or two to compare".to_owned());
    }
    let duration = Duration::from_millis(request.duration_ms);
    if !DURATION.contains(&duration) {
        return usage(format!(
            "a profile may take from {} to {}, not {}",
            humantime::format_duration(*DURATION.start()),
            humantime::format_duration(*DURATION.end()),
            humantime::format_duration(duration)
        ));
    }
    if request.measure == Measure::Waiting && request.generations.len() > 1 {
        return usage(
            "waits can be profiled for one generation only: the samples of one wait are not \
             independent, so a comparison would call chance significant"
                .to_owned(),
        );
    }
    if request.measure == Measure::Waiting && request.unwind == Unwind::Fp {
        return usage("waits are unwound by tables: use --unwind auto or dwarf".to_owned());
    }
    if !FREQUENCY.contains(&request.frequency) {
        return usage(format!(
            "the frequency must be {} to {} Hz, not {}",
            FREQUENCY.start(),
            FREQUENCY.end(),
            request.frequency
        ));
    }
    Ok(())
}

pub(super) fn refused(code: &'static str, message: String, exit: u8) -> VerbError {
    VerbError::Profile {
        code,
        message,
        exit,
    }
}

/// How a helper is started.
pub(super) fn helper_command() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command
        .arg("__profile")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Has a helper carry out `plan`. It is killed when this is dropped, and ends by itself when the
/// agent does.
async fn ask_helper(plan: &Plan) -> Result<Profile, VerbError> {
    let system = |source| VerbError::System {
        doing: "cannot start the sampling helper",
        source,
    };
    let mut child = helper_command().spawn().map_err(system)?;
    let mut line =
        serde_json::to_vec(&Task::Once(plan.clone())).map_err(|error| system(error.into()))?;
    line.push(b'\n');
    // Held open until the helper has answered: its end says that nobody waits any more.
    let mut stdin = child.stdin.take();
    if let Some(stdin) = &mut stdin {
        stdin.write_all(&line).await.map_err(system)?;
    }
    let output = child.wait_with_output().await.map_err(system)?;
    drop(stdin);
    match serde_json::from_slice(&output.stdout) {
        Ok(Answer::Profile(profile)) => Ok(*profile),
        Ok(Answer::Failed(Failed { message, exit })) => {
            Err(refused("profile_failed", message, exit))
        }
        Err(_cut_off) => {
            let message = format!(
                "the sampling helper ended without a profile ({}); see the agent's log for its \
                 last output",
                output.status
            );
            Err(refused("profile_failed", message, 1))
        }
    }
}
