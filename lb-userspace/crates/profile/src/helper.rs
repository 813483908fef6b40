//! The process that samples for the agent: a plan on stdin, a profile on stdout.

use std::{
    io::{self, BufRead as _, Write as _},
    time::Duration,
};

use hotlb_datapath::Samples;
use hotlb_sys::{
    cgroup::Cgroup,
    clock::{self, Deadline},
    perf::{Rings, Scope},
};
use hotlb_values::profile::Measure;
use serde::{Deserialize, Serialize};

use super::{
    Plan, Profile, ProfileError,
    budget::Used,
    collector::{Collector, Members},
    continuous,
    error::Failed,
    naming::name,
    opening::open,
    orders::Task,
    stacks::Tally,
    waiting,
};

/// How often the rings are read at least.
const LOOK: Duration = Duration::from_millis(100);

/// What the helper answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// The profile.
    Profile(Box<Profile>),
    /// Why there is none.
    Failed(Failed),
}

/// Does the [`Task`] in the first line of stdin. It gives up when stdin is closed: whoever asked has
/// gone.
///
/// # Errors
///
/// What reading and writing the standard streams says.
pub fn run() -> io::Result<()> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    let sampled = match serde_json::from_str(&line) {
        Ok(Task::Always(standing)) => return continuous::run(standing),
        Ok(Task::Once(plan)) => sample(&plan),
        Err(error) => Err(error.into()),
    };
    let answer = match sampled {
        Ok(profile) => Answer::Profile(Box::new(profile)),
        Err(error) => Answer::Failed(Failed::from(&error)),
    };
    let mut stdout = io::stdout().lock();
    serde_json::to_writer(&mut stdout, &answer)?;
    stdout.flush()
}

/// One generation at work.
pub(super) struct Subject {
    pub(super) generation: String,
    pub(super) cgroup: Cgroup,
    pub(super) members: Members,
    pub(super) tally: Tally,
    /// Its samples, where the kernel counts them.
    counts: Option<Samples>,
    /// CPU time of its cgroup when sampling began.
    pub(super) cpu_before: Option<Duration>,
    pub(super) expected: Option<u64>,
}

/// What was counted of one generation.
pub(super) struct Counted {
    pub(super) generation: String,
    pub(super) tally: Tally,
    pub(super) expected: Option<u64>,
}

fn sample(plan: &Plan) -> Result<Profile, ProfileError> {
    let mut collector = Collector::new(plan.unwind);
    let mut notes = Vec::new();
    let (subjects, scope, (took, sampling)) = match plan.measure {
        Measure::Waiting => {
            let mut subjects = subjects(plan, Scope::Cgroup, &mut collector);
            let took = waiting::collect(plan, &mut subjects, &mut collector, &mut notes)?;
            (subjects, Scope::Cgroup, took)
        }
        Measure::Cpu => {
            let mut opened = open(plan)?;
            notes.append(&mut opened.notes);
            let mut subjects = subjects(plan, opened.scope, &mut collector);
            for (subject, counts) in subjects.iter_mut().zip(opened.counts) {
                subject.counts = Some(counts);
            }
            let rings = &mut opened.rings;
            let took = collect(plan, rings, &mut subjects, &mut collector, &mut notes)?;
            (subjects, opened.scope, took)
        }
    };
    if collector.throttled {
        notes.push("the kernel held samples back, because they took it too long".to_owned());
    }
    if scope == Scope::Host {
        notes.push(
            "the perf_event controller is not on cgroup2 here: the whole host was sampled, and \
             all but the generation left out"
                .to_owned(),
        );
    }
    let counted = |subject: Subject| Counted {
        generation: subject.generation,
        tally: subject.tally,
        expected: subject.expected,
    };
    let subjects = subjects.into_iter().map(counted).collect();
    Ok(name(
        plan, scope, took, sampling, subjects, &collector, notes,
    ))
}

fn subjects(plan: &Plan, scope: Scope, collector: &mut Collector) -> Vec<Subject> {
    let subject = |target: &super::Target| {
        let cgroup = Cgroup::at(target.cgroup.clone());
        let members = Members::of(cgroup.clone(), scope);
        members.pids().for_each(|pid| collector.meet(pid));
        Subject {
            generation: target.generation.clone(),
            cgroup,
            members,
            tally: Tally::default(),
            counts: None,
            cpu_before: None,
            expected: None,
        }
    };
    plan.targets.iter().map(subject).collect()
}

/// Samples until the time is over or something ends it; how long that was, and what it used.
fn collect(
    plan: &Plan,
    rings: &mut [Rings],
    subjects: &mut [Subject],
    collector: &mut Collector,
    notes: &mut Vec<String>,
) -> Result<(Duration, Used), ProfileError> {
    for (rings, subject) in rings.iter_mut().zip(subjects.iter_mut()) {
        if !subject.cgroup.is_populated() {
            return Err(ProfileError::NoProcess(subject.generation.clone()));
        }
        subject.cpu_before = subject.cgroup.cpu_time();
        rings.enable()?;
    }
    let began = clock::now();
    let deadline = Deadline::after(Duration::from_millis(plan.duration_ms));
    let mut memory = 0;
    while let Some(left) = deadline.left() {
        if Rings::wait(rings, io::stdin(), left.min(LOOK))? {
            return Err(ProfileError::Abandoned);
        }
        take(rings, subjects, collector)?;
        let used = Used::now();
        memory = memory.max(used.memory);
        let elapsed = clock::now().duration_since(began);
        if let Some(note) = must_stop(plan, subjects, used, elapsed) {
            notes.push(note);
            break;
        }
    }
    for (rings, subject) in rings.iter_mut().zip(subjects.iter_mut()) {
        rings.disable()?;
        let used = subject.cgroup.cpu_time().zip(subject.cpu_before);
        subject.expected =
            used.map(|(after, before)| expected(after.saturating_sub(before), plan.frequency));
    }
    let took = clock::now().duration_since(began);
    take(rings, subjects, collector)?;
    for subject in subjects {
        subject.read_counts(collector)?;
        subject.tally.lost += subject.counts.as_ref().map_or(0, Samples::lost);
    }
    let sampling = Used {
        memory,
        ..Used::now()
    };
    Ok((took, sampling))
}

/// Why sampling ends before its time, if it must.
pub(super) fn must_stop(
    plan: &Plan,
    subjects: &[Subject],
    used: Used,
    elapsed: Duration,
) -> Option<String> {
    let ended = subjects
        .iter()
        .find(|subject| !subject.cgroup.is_populated());
    let ended = ended.map(|subject| format!("{} ended", subject.generation));
    let why = ended.or_else(|| used.exceeded(elapsed))?;
    Some(format!(
        "sampling stopped after {} of {} ms: {why}",
        elapsed.as_millis(),
        plan.duration_ms
    ))
}

fn take(
    rings: &mut [Rings],
    subjects: &mut [Subject],
    collector: &mut Collector,
) -> Result<(), ProfileError> {
    collector.next_look();
    for (rings, subject) in rings.iter_mut().zip(subjects.iter_mut()) {
        subject.members.look();
        if subject.counts.is_none() {
            let Subject { members, tally, .. } = subject;
            rings.read(&mut |event| collector.take(&event, members, tally));
            continue;
        }
        subject.meet(collector);
        let mut is_read = Ok(false);
        rings.read(&mut |event| {
            // With the mappings by which the samples were taken.
            if matches!(is_read, Ok(false)) && collector.loses_mappings(&event) {
                is_read = subject.read_counts(collector).map(|()| true);
            }
            collector.take(&event, &mut subject.members, &mut subject.tally);
        });
        is_read?;
        if subject.counts.as_ref().is_some_and(Samples::fills) {
            subject.read_counts(collector)?;
        }
    }
    Ok(())
}

impl Subject {
    /// Looks at processes before their samples are read, for they may have ended by then.
    fn meet(&self, collector: &mut Collector) {
        for pid in self.cgroup.pids() {
            collector.meet(pid);
        }
    }

    /// Takes in what the kernel counted, if it does.
    fn read_counts(&mut self, collector: &mut Collector) -> Result<(), ProfileError> {
        let Self { counts, tally, .. } = self;
        let Some(counts) = counts else { return Ok(()) };
        let read = counts.read(&mut |alike| tally.add(collector.counted(&alike), alike.count));
        read.map_err(ProfileError::Counts)
    }
}

/// Samples that this much CPU time makes.
pub(super) fn expected(cpu: Duration, frequency: u32) -> u64 {
    let samples = cpu.as_micros() * u128::from(frequency) / 1_000_000;
    u64::try_from(samples).unwrap_or(u64::MAX)
}
