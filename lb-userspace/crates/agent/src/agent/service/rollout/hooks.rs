//! Running the hooks of a phase.

use super::{
    super::{Reporter, VerbError, checks::exec::hooks_cgroup},
    Plan, Rollouts,
    minutes::Minutes,
    wanted::Wanted,
};
use crate::{
    clock,
    config::{Hook, HookPhase},
    generation::hook::{self, HookOutcome, HookResult, HookRun},
    lineage::HookSpan,
    rollout::{Course, Phase},
    store::journal::{Entry, Record},
    sys::environment::Environment,
};

/// What an earlier agent journaled of a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Past {
    /// Nothing: it has not begun.
    Nothing,
    /// It ended well.
    Passed,
    /// It began so many times; how far it came nobody knows.
    Begun(u32),
}

/// The rollout that hooks are run in, and where it stands.
pub(super) struct Occasion<'a> {
    pub(super) rollouts: &'a Rollouts,
    pub(super) plan: &'a Plan,
    pub(super) course: Course,
    pub(super) reporter: &'a Reporter,
    pub(super) wanted: &'a Wanted,
}

/// Runs the hooks of a phase.
pub(super) struct Hooks<'a> {
    of: Occasion<'a>,
    /// What an earlier agent journaled of the phase.
    past: &'a [Entry],
    minutes: &'a mut Minutes,
}

impl<'a> Hooks<'a> {
    pub(super) fn new(of: Occasion<'a>, past: &'a [Entry], minutes: &'a mut Minutes) -> Self {
        Self { of, past, minutes }
    }

    /// Runs the phase's hooks, one after the other; the first that fails ends the phase.
    pub(super) async fn run(&mut self, phase: Phase) -> Result<(), VerbError> {
        let hooks: Vec<(u32, Hook)> = (0..)
            .zip(self.of.plan.hooks.iter().cloned())
            .filter(|(_, hook)| Phase::from(hook.phase) == phase)
            .collect();
        for (index, hook) in hooks {
            match self.past_of(phase, index) {
                Past::Passed => {}
                Past::Nothing => self.hook(index, &hook, 1).await?,
                Past::Begun(times) if hook.reentrant => {
                    self.hook(index, &hook, times + 1).await?;
                }
                Past::Begun(_) => self.interrupted_hook(&hook).await?,
            }
        }
        Ok(())
    }

    fn past_of(&self, phase: Phase, index: u32) -> Past {
        let mut past = Past::Nothing;
        for entry in self.past {
            match &entry.record {
                Record::HookBegun {
                    phase: of,
                    index: number,
                    attempt,
                    ..
                } if (*of, *number) == (phase, index) => past = Past::Begun(*attempt),
                Record::HookEnded {
                    phase: of,
                    index: number,
                    ok: true,
                    ..
                } if (*of, *number) == (phase, index) => past = Past::Passed,
                _ => {}
            }
        }
        past
    }

    /// A hook that was running when the agent was killed, and must not run twice.
    async fn interrupted_hook(&mut self, hook: &Hook) -> Result<(), VerbError> {
        let text = format!(
            "the {} hook `{}` was running when the agent ended; it is not declared re-entrant, so \
             it is not run again: check whether it did its work",
            hook.phase,
            hook.command.join(" ")
        );
        self.note(Record::Note { text: text.clone() }).await;
        if hook.phase == HookPhase::PostRollback {
            tracing::error!(reason = text, "a hook is not run again");
            return Ok(());
        }
        Err(VerbError::CalledOff {
            rollout: self.minutes.name(),
            reason: text,
        })
    }

    async fn hook(&mut self, index: u32, hook: &Hook, attempt: u32) -> Result<(), VerbError> {
        let phase = Phase::from(hook.phase);
        let command = hook.command.join(" ");
        self.of
            .reporter
            .step(format!("{} hook: {command}", hook.phase));
        let begun = Record::HookBegun {
            phase,
            index,
            attempt,
            command: command.clone(),
            reentrant: hook.reentrant,
        };
        match self.minutes.record(self.of.course.phase, begun).await {
            // Nobody could tell later that it has run.
            Err(error) if phase <= Phase::Swap => return Err(error),
            _ => {}
        }
        let result = self.run_hook(index, hook, attempt).await;
        self.note(Record::HookEnded {
            phase,
            index,
            attempt,
            ok: result.outcome.is_success(),
            outcome: result.outcome.to_string(),
            output: result.output.clone(),
            dropped: result.dropped,
            took_ms: clock::millis(result.took),
        })
        .await;
        let succeeded = result.outcome.is_success();
        // Written down with whatever is next.
        self.of
            .rollouts
            .state
            .change(|registry| {
                let stats = registry.sums_mut().rollout_stats_mut();
                stats.hook(phase, succeeded);
            })
            .await;
        match result.outcome {
            HookOutcome::Succeeded => Ok(()),
            outcome => Err(VerbError::HookFailed {
                phase: hook.phase.name(),
                command,
                outcome: outcome.to_string(),
                output: last_lines(&result.output),
            }),
        }
    }

    async fn note(&mut self, record: Record) {
        self.minutes.note(self.of.course.phase, record).await;
    }

    /// Runs one hook; it is killed when somebody wants something else.
    async fn run_hook(&self, index: u32, hook: &Hook, attempt: u32) -> HookResult {
        let name = format!("{}-{}-{index}", self.minutes.name(), hook.phase);
        let cgroup = hooks_cgroup(&self.of.rollouts.cgroup).child(&name);
        let env = self.hook_env(index, hook, attempt).await;
        let running = hook::run(HookRun {
            hook,
            cgroup: cgroup.clone(),
            netns: &self.of.rollouts.netns,
            cwd: std::path::Path::new("/"),
            env,
        });
        tokio::pin!(running);
        tokio::select! {
            result = &mut running => return result,
            () = self.of.wanted.comes(self.of.course) => {}
        }
        if let Err(error) = cgroup.kill() {
            tracing::error!(%error, "failed to kill a hook; it runs until its deadline");
        }
        running.await
    }

    async fn hook_env(&self, index: u32, hook: &Hook, attempt: u32) -> Environment {
        let span = HookSpan {
            phase: hook.phase.name(),
            index,
            attempt,
        };
        let registry = self.of.rollouts.state.lock().await;
        let name = |id| registry.name_of(id);
        let mut env = self.of.rollouts.hook_env();
        let from = self.of.plan.from().map(name).unwrap_or_default();
        let to = self.of.plan.to().map(name).unwrap_or_default();
        let reason = self.of.plan.reason.clone().unwrap_or_default();
        env.extend([
            (
                "HOTLB_SERVICE".to_owned(),
                self.of.rollouts.name().to_owned(),
            ),
            ("HOTLB_FROM".to_owned(), from),
            ("HOTLB_TO".to_owned(), to),
            ("HOTLB_ROLLOUT".to_owned(), self.minutes.name()),
            ("HOTLB_PHASE".to_owned(), hook.phase.name().to_owned()),
            ("HOTLB_ATTEMPT".to_owned(), attempt.to_string()),
            ("HOTLB_REASON".to_owned(), reason),
            (
                "TRACEPARENT".to_owned(),
                self.of.plan.lineage.of_hook(&self.of.plan.trace, &span),
            ),
        ]);
        env
    }
}

/// What an error shows of a hook's output.
const LINES: usize = 8;

fn last_lines(output: &str) -> Vec<String> {
    let lines: Vec<&str> = output.lines().collect();
    let skipped = lines.len().saturating_sub(LINES);
    lines
        .iter()
        .skip(skipped)
        .map(ToString::to_string)
        .collect()
}
