//! The process that samples for the agent: a plan on stdin, a profile on stdout.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io::{self, BufRead as _, Write as _},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    Plan, ProfileError, Unwind,
    budget::Used,
    collector::{Collector, Members},
    continuous,
    error::Failed,
    model::{Exposure, Frame, Profile, Sampled, Stack},
    names::{Namer, Names},
    orders::Task,
    plan::Measure,
    refusal,
    stacks::{Address, Key, Tally},
    waiting,
};
use crate::{
    clock::{self, Deadline, millis},
    sys::{
        cgroup::Cgroup,
        perf::{Rings, Sampling, Scope},
    },
};

/// Bytes of the user stack in each sample.
const STACK_BYTES: u32 = 16 << 10;
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
            let (mut rings, scope) = open(plan)?;
            let mut subjects = subjects(plan, scope, &mut collector);
            let took = collect(plan, &mut rings, &mut subjects, &mut collector, &mut notes)?;
            (subjects, scope, took)
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
        let members = Members::of(cgroup.clone(), scope == Scope::Cgroup);
        members.pids().for_each(|pid| collector.meet(pid));
        Subject {
            generation: target.generation.clone(),
            cgroup,
            members,
            tally: Tally::default(),
            cpu_before: None,
            expected: None,
        }
    };
    plan.targets.iter().map(subject).collect()
}

/// Opens the rings, of the cgroup or, where that cannot be, of the host.
pub(super) fn open(plan: &Plan) -> Result<(Vec<Rings>, Scope), ProfileError> {
    match (
        plan.scope,
        open_by(plan, plan.scope.unwrap_or(Scope::Cgroup)),
    ) {
        (None, Err(error)) if is_elsewhere(&error) => {
            let rings = open_by(plan, Scope::Host);
            let rings = rings.map_err(|error| refusal::explain(&error, plan.frequency))?;
            Ok((rings, Scope::Host))
        }
        (scope, Ok(rings)) => Ok((rings, scope.unwrap_or(Scope::Cgroup))),
        (_, Err(error)) => Err(refusal::explain(&error, plan.frequency)),
    }
}

/// Whether the `perf_event` controller is on another hierarchy.
fn is_elsewhere(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::EBADF | libc::EINVAL)
    )
}

fn open_by(plan: &Plan, scope: Scope) -> io::Result<Vec<Rings>> {
    let cpus = online_cpus()?;
    let open = |target: &super::Target| {
        let cgroup = File::open(&target.cgroup)?;
        let sampling = Sampling {
            cgroup: &cgroup,
            frequency: plan.frequency,
            stack_bytes: if plan.unwind == Unwind::Fp {
                0
            } else {
                STACK_BYTES
            },
            scope,
        };
        Rings::open(&sampling, &cpus)
    };
    plan.targets.iter().map(open).collect()
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
        subject.cpu_before = cpu_time(&subject.cgroup);
        rings.enable()?;
    }
    let began = clock::now();
    let deadline = Deadline::after(Duration::from_millis(plan.duration_ms));
    let mut memory = 0;
    while let Some(left) = deadline.left() {
        if Rings::wait(rings, io::stdin(), left.min(LOOK))? {
            return Err(ProfileError::Abandoned);
        }
        take(rings, subjects, collector);
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
        let used = cpu_time(&subject.cgroup).zip(subject.cpu_before);
        subject.expected =
            used.map(|(after, before)| expected(after.saturating_sub(before), plan.frequency));
    }
    let took = clock::now().duration_since(began);
    take(rings, subjects, collector);
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

fn take(rings: &mut [Rings], subjects: &mut [Subject], collector: &mut Collector) {
    collector.next_look();
    for (rings, subject) in rings.iter_mut().zip(subjects.iter_mut()) {
        let Subject { members, tally, .. } = subject;
        members.look();
        rings.read(&mut |event| collector.take(&event, members, tally));
    }
}

/// Puts names to what was collected.
#[expect(clippy::too_many_arguments, reason = "all that was found out, once")]
pub(super) fn name(
    plan: &Plan,
    scope: Scope,
    took: Duration,
    sampling: Used,
    subjects: Vec<Counted>,
    collector: &Collector,
    mut notes: Vec<String>,
) -> Profile {
    let stacks = subjects
        .iter()
        .flat_map(|subject| subject.tally.stacks.keys());
    let addresses: HashSet<Address> = stacks.flat_map(|key| key.frames.iter().copied()).collect();
    let mut namer = Namer::new(&collector.modules);
    let names = namer.names(addresses.into_iter());
    notes.append(&mut namer.notes);
    drop(namer);
    let mut table = Table::default();
    let mut sampled = |subject: Counted| Sampled {
        generation: subject.generation,
        samples: subject.tally.samples,
        expected: subject.expected,
        lost: subject.tally.lost,
        truncated: subject.tally.truncated,
        exposure: Exposure::default(),
        stacks: table.stacks(&names, &subject.tally.stacks),
    };
    let generations = subjects.into_iter().map(&mut sampled).collect();
    let used = Used::now();
    Profile {
        service: plan.service.clone(),
        measure: plan.measure,
        frequency: plan.frequency,
        took_ms: millis(took),
        unwind: plan.unwind,
        scope,
        frames: table.frames,
        generations,
        notes,
        own_cpu_ms: millis(sampling.cpu),
        names_cpu_ms: millis(used.cpu.saturating_sub(sampling.cpu)),
        own_memory_bytes: sampling.memory.max(used.memory),
    }
}

/// Functions, each once.
#[derive(Default)]
struct Table {
    frames: Vec<Frame>,
    places: HashMap<Frame, u32>,
}

impl Table {
    fn stacks(&mut self, names: &Names, counted: &HashMap<Key, u64>) -> Vec<Stack> {
        // Different addresses of the same functions are the same stack.
        let mut merged: HashMap<(&str, Vec<u32>), u64> = HashMap::new();
        for (key, &count) in counted {
            let addresses = key.frames.iter().rev();
            let functions = addresses.filter_map(|address| names.get(address)).flatten();
            let frames = functions.map(|frame| self.place(frame)).collect();
            *merged.entry((&*key.thread, frames)).or_default() += count;
        }
        let stack = |((thread, frames), count): ((&str, Vec<u32>), u64)| Stack {
            thread: thread.to_owned(),
            frames,
            count,
        };
        let mut stacks: Vec<_> = merged.into_iter().map(stack).collect();
        stacks.sort_by(|a, b| {
            let order = b.count.cmp(&a.count);
            order.then_with(|| (&a.thread, &a.frames).cmp(&(&b.thread, &b.frames)))
        });
        stacks
    }

    fn place(&mut self, frame: &Frame) -> u32 {
        if let Some(&place) = self.places.get(frame) {
            return place;
        }
        let place = u32::try_from(self.frames.len()).unwrap_or(u32::MAX);
        self.frames.push(frame.clone());
        self.places.insert(frame.clone(), place);
        place
    }
}

/// CPU time that all processes of the cgroup have used; cgroup2 counts it without a controller.
pub(super) fn cpu_time(cgroup: &Cgroup) -> Option<Duration> {
    let stat = fs::read_to_string(cgroup.path().join("cpu.stat")).ok()?;
    let used = stat
        .lines()
        .find_map(|line| line.strip_prefix("usage_usec "))?;
    used.trim().parse().ok().map(Duration::from_micros)
}

/// Samples that this much CPU time makes.
pub(super) fn expected(cpu: Duration, frequency: u32) -> u64 {
    let samples = cpu.as_micros() * u128::from(frequency) / 1_000_000;
    u64::try_from(samples).unwrap_or(u64::MAX)
}

/// The numbers of the CPUs that are online, for example from "0-3,8".
fn online_cpus() -> io::Result<Vec<usize>> {
    let list = fs::read_to_string("/sys/devices/system/cpu/online")?;
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?)
    };
    let ranges = list.trim().split(',').filter_map(range);
    Ok(ranges.flatten().collect())
}
