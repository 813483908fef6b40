//! Where threads wait: looks at all of a generation's threads, at the frequency asked for.

use std::{collections::HashMap, io, time::Duration};

use hotlb_datapath::{Totals, Waits};
use hotlb_sys::{
    clock::{self, Deadline},
    perf::Rings,
};

use super::{
    Plan, ProfileError,
    budget::Used,
    collector::Collector,
    helper::{self, Subject, must_stop},
    stacks::Key,
};

/// How often it is looked who is of the generation.
const MEMBERS: Duration = Duration::from_millis(100);

/// The part by which looks are moved within their time: the golden ratio's, whose multiples lie
/// nowhere close to each other, so that no rhythm of a server hides from them.
const STEP: f64 = 0.618_033_988_749_895;

/// Looks until the time is over or something ends it; how long that was, and what it used.
pub(super) fn collect(
    plan: &Plan,
    subjects: &mut [Subject],
    collector: &mut Collector,
    notes: &mut Vec<String>,
) -> Result<(Duration, Used), ProfileError> {
    let mut looker = Looker {
        waits: Waits::open().map_err(ProfileError::NoWaits)?,
        last: HashMap::new(),
    };
    for subject in &mut *subjects {
        if !subject.cgroup.is_populated() {
            return Err(ProfileError::NoProcess(subject.generation.clone()));
        }
        subject.cpu_before = subject.cgroup.cpu_time();
    }
    // Reading the kernel's types takes time once, which says nothing of the looks.
    let prepared = Used::now().cpu;
    let began = clock::now();
    let duration = Duration::from_millis(plan.duration_ms);
    let mut rhythm = Rhythm::new(plan.frequency);
    let mut members = Deadline::after(Duration::ZERO);
    let mut memory = 0;
    loop {
        let elapsed = clock::now().duration_since(began);
        let next = rhythm.next(elapsed);
        if next >= duration {
            break;
        }
        if Rings::wait(&[], io::stdin(), next.saturating_sub(elapsed))? {
            return Err(ProfileError::Abandoned);
        }
        if members.left().is_none() {
            members = Deadline::after(MEMBERS);
            looker.enter(subjects)?;
            collector.next_look();
            let used = Used::now().since(prepared);
            memory = memory.max(used.memory);
            let elapsed = clock::now().duration_since(began);
            if let Some(note) = must_stop(plan, subjects, used, elapsed) {
                notes.push(note);
                break;
            }
        }
        looker.look(subjects, collector)?;
    }
    let took = clock::now().duration_since(began);
    looker.finish(plan, subjects);
    notes.extend(rhythm.note(took));
    let used = Used {
        memory,
        ..Used::now().since(prepared)
    };
    Ok((took, used))
}

struct Looker {
    waits: Waits,
    /// What each thread did when its stack was last seen, and of which generation it is.
    last: HashMap<u32, (u32, Key)>,
}

impl Looker {
    fn enter(&mut self, subjects: &mut [Subject]) -> Result<(), ProfileError> {
        for (subject, target) in subjects.iter_mut().zip(0..) {
            for pid in subject.cgroup.pids() {
                self.waits
                    .enter(pid, target)
                    .map_err(ProfileError::NoWaits)?;
            }
        }
        Ok(())
    }

    fn look(
        &mut self,
        subjects: &mut [Subject],
        collector: &mut Collector,
    ) -> Result<(), ProfileError> {
        let Self { waits, last } = self;
        let looked = waits.look(&mut |found| {
            if let Some((target, key)) = last.remove(&found.tid) {
                count(subjects, target, key, found.repeats);
            }
            let key = collector.waiting(&found);
            count(subjects, found.target, key.clone(), 1);
            last.insert(found.tid, (found.target, key));
        });
        looked.map_err(ProfileError::NoWaits)
    }

    /// Counts what has gone on since its record, and what there should be.
    fn finish(&mut self, plan: &Plan, subjects: &mut [Subject]) {
        for (tid, repeats) in self.waits.repeats() {
            if let Some((target, key)) = self.last.remove(&tid) {
                count(subjects, target, key, repeats);
            }
        }
        for (subject, target) in subjects.iter_mut().zip(0..) {
            let totals = self.waits.totals(target);
            subject.tally.lost = totals.lost + totals.torn;
            let used = subject.cgroup.cpu_time().zip(subject.cpu_before);
            subject.expected = used.map(|(after, before)| {
                expected(totals, after.saturating_sub(before), plan.frequency)
            });
        }
    }
}

fn count(subjects: &mut [Subject], target: u32, key: Key, times: u64) {
    let subject = usize::try_from(target).ok();
    if let Some(subject) = subject.and_then(|target| subjects.get_mut(target)) {
        subject.tally.add(key, times);
    }
}

/// Threads that should have been found off the CPUs: all but what their CPU time makes.
fn expected(totals: Totals, cpu: Duration, frequency: u32) -> u64 {
    let running = helper::expected(cpu, frequency);
    totals.found.saturating_sub(running)
}

/// When it is looked.
struct Rhythm {
    period: Duration,
    /// The next period that has no look yet.
    next: u32,
    looks: u32,
}

impl Rhythm {
    fn new(frequency: u32) -> Self {
        Self {
            period: Duration::from_secs(1) / frequency.max(1),
            next: 0,
            looks: 0,
        }
    }

    /// The next look, once in each period; those that are over are left out.
    fn next(&mut self, elapsed: Duration) -> Duration {
        let now = elapsed.as_nanos() / self.period.as_nanos().max(1);
        self.next = self.next.max(u32::try_from(now).unwrap_or(u32::MAX));
        let number = self.next;
        self.next += 1;
        self.looks += 1;
        self.period * number + self.period.mul_f64((f64::from(number) * STEP).fract())
    }

    /// What is missing, if it is much.
    fn note(&self, took: Duration) -> Option<String> {
        let all = took.as_nanos() / self.period.as_nanos().max(1);
        let missing = all.saturating_sub(u128::from(self.looks));
        (missing * 20 > all).then(|| {
            format!("{missing} of {all} looks came too late: the host was busy; shares hold, sums do not")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_period_has_one_look() {
        let mut rhythm = Rhythm::new(100);
        let period = Duration::from_millis(10);
        let mut elapsed = Duration::ZERO;
        for number in 0..1000 {
            let next = rhythm.next(elapsed);
            assert!((period * number..period * (number + 1)).contains(&next));
            elapsed = next;
        }
        assert!(rhythm.note(elapsed).is_none());
        let late = rhythm.next(elapsed + period * 500);
        assert!(late >= elapsed + period * 499);
        assert!(rhythm.note(late).is_some());
    }

    #[test]
    fn what_ran_is_not_expected() {
        let totals = Totals {
            found: 1000,
            ..Totals::default()
        };
        assert_eq!(expected(totals, Duration::from_secs(3), 99), 703);
    }
}
