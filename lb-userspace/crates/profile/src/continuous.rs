//! Sampling that goes on: what the last minutes had, generation by generation, in slices.

use std::{
    collections::VecDeque,
    io::{self, BufRead as _, Write as _},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use hotlb_sys::{
    cgroup::Cgroup,
    clock::{self, millis},
    heap::GivesBack,
    perf::{Rings, Scope},
};

use super::{
    Measure, Plan, ProfileError, Target, Unwind,
    budget::Used,
    collector::{Collector, Members},
    error::Failed,
    helper::{Answer, Counted, expected},
    naming::name,
    opening::{Opened, open},
    orders::{Command, Cost, Said, Standing, Wanted},
    stacks::Tally,
};

/// How often the rings are read and commands are heard.
const LOOK: Duration = Duration::from_millis(250);
/// What is kept together: what is asked for is rounded up to it.
const SLICE: Duration = Duration::from_secs(10);
/// Frames of stacks that are kept, over all slices: some 50 MB. The oldest slice goes first.
const MOST_FRAMES: usize = 2_000_000;
/// The share of one CPU that sampling may use over a slice, in percent.
const CPU_PERCENT: u128 = 5;

/// Samples as `standing` says until stdin is closed, or until it had to stop and nothing is kept any
/// more.
///
/// # Errors
///
/// What reading and writing the standard streams says.
pub(super) fn run(standing: Standing) -> io::Result<()> {
    let commands = listen();
    let mut archive = Archive::new(standing);
    loop {
        if Rings::wait(&archive.rings, io::stdin(), LOOK)? {
            return Ok(());
        }
        for command in commands.try_iter() {
            archive.obey(command)?;
        }
        archive.take();
        if archive.slice_began.elapsed() >= SLICE {
            archive.turn()?;
        }
        if archive.has_stopped && archive.kept.is_empty() {
            return Ok(());
        }
    }
}

fn listen() -> Receiver<Command> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let lines = io::stdin().lock().lines().map_while(Result::ok);
        for command in lines.filter_map(|line| serde_json::from_str(&line).ok()) {
            if sender.send(command).is_err() {
                return;
            }
        }
    });
    receiver
}

fn say(said: &Said) -> io::Result<()> {
    let mut line = serde_json::to_vec(said)?;
    line.push(b'\n');
    let mut stdout = io::stdout().lock();
    stdout.write_all(&line)?;
    stdout.flush()
}

/// What is kept, and who is sampled.
struct Archive {
    standing: Standing,
    collector: Collector,
    kept: Vec<Kept>,
    /// Of the generations that are sampled, in the same order.
    rings: Vec<Rings>,
    scope: Scope,
    live: Vec<Live>,
    slice_began: Instant,
    /// CPU time that had been used then.
    cpu_before: Duration,
    /// CPU time of finding names.
    names_cpu: Duration,
    samples: u64,
    has_stopped: bool,
}

/// A generation that is sampled.
struct Live {
    generation: String,
    cgroup: Cgroup,
    members: Members,
    tally: Tally,
    /// CPU time of its cgroup when the slice began, and at the last look: it is gone with the cgroup.
    cpu_before: Option<Duration>,
    cpu: Option<Duration>,
}

/// What is kept of a generation.
struct Kept {
    generation: String,
    slices: VecDeque<Slice>,
}

struct Slice {
    began: Instant,
    ended: Instant,
    tally: Tally,
    expected: Option<u64>,
}

impl Archive {
    fn new(standing: Standing) -> Self {
        Self {
            standing,
            collector: Collector::new(Unwind::Auto),
            kept: Vec::new(),
            rings: Vec::new(),
            scope: Scope::Filtered,
            live: Vec::new(),
            slice_began: clock::now(),
            cpu_before: Used::now().cpu,
            names_cpu: Duration::ZERO,
            samples: 0,
            has_stopped: false,
        }
    }

    fn obey(&mut self, command: Command) -> io::Result<()> {
        match command {
            Command::Begin(_) if self.has_stopped => Ok(()),
            Command::Begin(target) => match self.begin(target) {
                // One that has ended meanwhile.
                Ok(()) | Err(ProfileError::Cgroup { .. }) => Ok(()),
                Err(error) => self.stop(error.to_string()),
            },
            Command::Give(wanted) => {
                // With what came until now.
                self.take();
                self.end_slice();
                let before = Used::now().cpu;
                {
                    let _after = GivesBack::at_the_end();
                    let answer = self.give(&wanted);
                    say(&Said::Kept(wanted.id, answer))?;
                }
                let names = Used::now().cpu.saturating_sub(before);
                self.names_cpu += names;
                self.cpu_before += names;
                Ok(())
            }
        }
    }

    fn plan(&self, targets: Vec<Target>) -> Plan {
        Plan {
            service: self.standing.service.clone(),
            targets,
            measure: Measure::Cpu,
            frequency: self.standing.frequency,
            duration_ms: 0,
            unwind: Unwind::Auto,
            scope: None,
            room: None,
        }
    }

    fn begin(&mut self, target: Target) -> Result<(), ProfileError> {
        let cgroup = Cgroup::at(target.cgroup.clone());
        if self
            .live
            .iter()
            .any(|live| live.generation == target.generation)
            || !cgroup.is_populated()
        {
            return Ok(());
        }
        let generation = target.generation.clone();
        let Opened {
            mut rings, scope, ..
        } = open(&self.plan(vec![target]))?;
        let members = Members::of(cgroup.clone(), scope);
        self.scope = scope;
        members.pids().for_each(|pid| self.collector.meet(pid));
        for rings in &mut rings {
            rings.enable()?;
        }
        self.rings.append(&mut rings);
        self.live.push(Live {
            cpu_before: cgroup.cpu_time(),
            cpu: None,
            generation,
            cgroup,
            members,
            tally: Tally::default(),
        });
        Ok(())
    }

    fn take(&mut self) {
        self.collector.next_look();
        for (rings, live) in self.rings.iter_mut().zip(&mut self.live) {
            live.cpu = live.cgroup.cpu_time().or(live.cpu);
            let Live { members, tally, .. } = live;
            members.look();
            rings.read(&mut |event| self.collector.take(&event, members, tally));
        }
    }

    /// Ends a slice, forgets what is old, looks at what it cost.
    fn turn(&mut self) -> io::Result<()> {
        let took = self.slice_began.elapsed();
        self.end_slice();
        self.forget();
        let used = Used::now();
        let cpu = used.cpu.saturating_sub(self.cpu_before);
        self.cpu_before = used.cpu;
        if cpu.as_micros() * 100 > took.as_micros() * CPU_PERCENT {
            self.stop(format!(
                "sampling used {} ms of CPU time in {} ms, more than {CPU_PERCENT} % of a CPU; \
                 configure a lower rate",
                cpu.as_millis(),
                took.as_millis()
            ))?;
        }
        if used.is_too_large() {
            self.kept.clear();
            self.stop(format!("sampling had {} MB of memory", used.memory >> 20))?;
        }
        say(&Said::Cost(Cost {
            cpu_ms: millis(used.cpu.saturating_sub(self.names_cpu)),
            memory_bytes: used.memory,
            samples: self.samples,
        }))
    }

    fn end_slice(&mut self) {
        let (began, ended) = (self.slice_began, clock::now());
        self.slice_began = ended;
        let mut over = Vec::new();
        for (place, live) in self.live.iter_mut().enumerate() {
            let tally = std::mem::take(&mut live.tally);
            self.samples += tally.samples;
            let used = live.cpu.zip(live.cpu_before);
            live.cpu_before = live.cpu.or(live.cpu_before);
            let slice = Slice {
                began,
                ended,
                expected: used.map(|(after, before)| {
                    expected(after.saturating_sub(before), self.standing.frequency)
                }),
                tally,
            };
            keep(&mut self.kept, &live.generation, slice);
            if !live.cgroup.is_populated() {
                over.push(place);
            }
        }
        for place in over.into_iter().rev() {
            drop(self.live.remove(place));
            drop(self.rings.remove(place));
        }
    }

    fn forget(&mut self) {
        let keep = Duration::from_millis(self.standing.keep_ms);
        for kept in &mut self.kept {
            kept.slices.retain(|slice| slice.ended.elapsed() <= keep);
        }
        while self.kept.iter().map(Kept::frames).sum::<usize>() > MOST_FRAMES {
            let oldest = self.kept.iter_mut().filter(|kept| !kept.slices.is_empty());
            let Some(oldest) = oldest.min_by_key(|kept| kept.slices.front().map(|s| s.began))
            else {
                break;
            };
            oldest.slices.pop_front();
        }
        self.kept.retain(|kept| !kept.slices.is_empty());
        if self.kept.is_empty() && self.live.is_empty() {
            // Programs that nobody runs any more.
            self.collector = Collector::new(Unwind::Auto);
        }
    }

    fn stop(&mut self, reason: String) -> io::Result<()> {
        self.take();
        self.end_slice();
        self.rings.clear();
        self.live.clear();
        self.has_stopped = true;
        say(&Said::Stopped(reason))
    }

    fn give(&self, wanted: &Wanted) -> Answer {
        let last = Duration::from_millis(wanted.last_ms);
        let mut counted = Vec::new();
        let mut took = Duration::ZERO;
        for generation in &wanted.generations {
            let kept = self.kept.iter().find(|kept| kept.generation == *generation);
            let slices = kept.into_iter().flat_map(|kept| &kept.slices);
            let slices: Vec<_> = slices
                .filter(|slice| slice.ended.elapsed() < last)
                .collect();
            let samples: u64 = slices.iter().map(|slice| slice.tally.samples).sum();
            if samples == 0 {
                return Answer::Failed(Failed {
                    message: format!(
                        "nothing is kept of {generation} in the last {}: it did not run, was idle, \
                         or has only begun",
                        humantime::format_duration(last)
                    ),
                    exit: 1,
                });
            }
            let mut tally = Tally::default();
            let mut expected = Some(0);
            for slice in slices {
                tally.merge(&slice.tally);
                expected = expected.zip(slice.expected).map(|(sum, more)| sum + more);
                took = took.max(slice.began.elapsed());
            }
            counted.push(Counted {
                generation: generation.clone(),
                tally,
                expected,
            });
        }
        let notes = vec![format!(
            "of what is kept, up to now; this took {} MB for all that is kept",
            Used::now().memory >> 20
        )];
        let plan = self.plan(Vec::new());
        let profile = name(
            &plan,
            self.scope,
            took,
            Used::now(),
            counted,
            &self.collector,
            notes,
        );
        Answer::Profile(Box::new(profile))
    }
}

impl Kept {
    fn frames(&self) -> usize {
        self.slices.iter().map(|slice| slice.tally.frames()).sum()
    }
}

fn keep(all: &mut Vec<Kept>, generation: &str, slice: Slice) {
    if let Some(kept) = all.iter_mut().find(|kept| kept.generation == generation) {
        kept.slices.push_back(slice);
        return;
    }
    all.push(Kept {
        generation: generation.to_owned(),
        slices: VecDeque::from([slice]),
    });
}
