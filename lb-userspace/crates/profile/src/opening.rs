//! Opens the events of generations, in the way that costs least of what this host can.

use std::{
    fs::{self, File},
    io,
    os::fd::AsFd as _,
};

use hotlb_datapath::{Samples, Use};
use hotlb_sys::perf::{Record, Rings, Sampling, Scope};

use super::{Plan, ProfileError, Target, Unwind, known_bugs, refusal};

/// Bytes of the user stack in each sample.
const STACK_BYTES: u32 = 16 << 10;
/// Stacks that find room where they are counted, for each sample a second: each sample has two sides
/// and is a pair of them, and what fills is read ten times a second.
const ROOM_EACH: u32 = 4;
/// The least and the most room: each stack takes 1 KiB of the kernel's memory.
const ROOM: [u32; 2] = [1 << 10, 1 << 14];

/// The events of all generations of a plan, which do not sample yet.
pub(super) struct Opened {
    /// Generation by generation.
    pub(super) rings: Vec<Rings>,
    /// Whom the kernel samples.
    pub(super) scope: Scope,
    /// What counts, generation by generation; none where records are written.
    pub(super) counts: Vec<Samples>,
    /// What is less than it should be, and why.
    pub(super) notes: Vec<String>,
}

/// One way to open them.
#[derive(Clone, Copy)]
struct Way {
    scope: Scope,
    record: Record,
    /// What the program does, where there is one.
    program: Option<Use>,
}

/// Opens what `plan` says, by the first way that works.
pub(super) fn open(plan: &Plan) -> Result<Opened, ProfileError> {
    let cpus = online_cpus()?;
    let cgroups: Result<Vec<_>, _> = plan.targets.iter().map(cgroup).collect();
    let cgroups = cgroups?;
    let mut notes = Vec::new();
    let mut ways = ways(plan, cpus.len(), &mut notes).into_iter().peekable();
    while let Some(way) = ways.next() {
        match by(plan, way, &cgroups, &cpus) {
            Ok((rings, counts)) => {
                return Ok(Opened {
                    rings,
                    scope: way.scope,
                    counts,
                    notes,
                });
            }
            Err(Failure::Events(error)) if way.program.is_none() => {
                if ways.peek().is_none() || !is_elsewhere(&error) {
                    return Err(refusal::explain(&error, plan.frequency));
                }
            }
            Err(failure) => notes.extend(way.note(&failure.to_string())),
        }
    }
    Err(ProfileError::Refused(notes.join("; ")))
}

/// From the best one to the last.
fn ways(plan: &Plan, cpus: usize, notes: &mut Vec<String>) -> Vec<Way> {
    let record = match plan.unwind {
        Unwind::Fp => Record::Chain,
        Unwind::Auto | Unwind::Dwarf => Record::Stack(STACK_BYTES),
    };
    let way = |scope, program| Way {
        scope,
        record,
        program,
    };
    let mut ways = Vec::new();
    if plan.unwind == Unwind::Fp {
        let counting = Way {
            scope: Scope::Filtered,
            record: Record::Nothing,
            program: Some(Use::Counts(room(plan, cpus))),
        };
        match known_bugs::against_reading() {
            None => ways.push(counting),
            Some(bug) => notes.extend(counting.note(&bug)),
        }
    }
    ways.extend([
        way(Scope::Filtered, Some(Use::Records)),
        way(Scope::Cgroup, None),
        way(Scope::Host, None),
    ]);
    ways.retain(|way| plan.scope.is_none_or(|scope| scope == way.scope));
    if plan.targets.len() > 1 {
        // What is compared is sampled by the CPU time of each. Ticks of the CPUs meet the slices of
        // those who share one in patterns, and patterns look like differences.
        ways.sort_by_key(|way| way.scope != Scope::Cgroup);
    }
    ways
}

fn room(plan: &Plan, cpus: usize) -> u32 {
    let [least, most] = ROOM;
    let cpus = u32::try_from(cpus).unwrap_or(u32::MAX);
    let enough = cpus
        .saturating_mul(plan.frequency)
        .saturating_mul(ROOM_EACH);
    plan.room.unwrap_or_else(|| enough.clamp(least, most))
}

impl Way {
    /// What it means that it is not taken, for this reason.
    fn note(self, reason: &str) -> Option<String> {
        let less = match self.program? {
            Use::Counts(_) => {
                "frame pointers are followed by the kernel's own code, and each call chain comes as a \
                 record, which costs more"
            }
            Use::Records => {
                "the events are the cgroup's, or the whole host's, which costs the server more"
            }
        };
        Some(format!("{less}: {reason}"))
    }
}

/// Why one way does not work.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Program(#[from] hotlb_datapath::DatapathError),
    #[error("perf_event_open: {0}")]
    Events(#[from] io::Error),
}

fn cgroup(target: &Target) -> Result<File, ProfileError> {
    File::open(&target.cgroup).map_err(|source| ProfileError::Cgroup {
        path: target.cgroup.clone(),
        source,
    })
}

fn by(
    plan: &Plan,
    way: Way,
    cgroups: &[File],
    cpus: &[usize],
) -> Result<(Vec<Rings>, Vec<Samples>), Failure> {
    let (mut rings, mut counts) = (Vec::new(), Vec::new());
    for cgroup in cgroups {
        let samples = way.program.map(|how| Samples::open(cgroup.as_fd(), how));
        let samples = samples.transpose()?;
        let sampling = Sampling {
            cgroup,
            frequency: plan.frequency,
            record: way.record,
            program: samples.as_ref().map(Samples::program).transpose()?,
            scope: way.scope,
        };
        rings.push(Rings::open(&sampling, cpus)?);
        // Else it is enough that the events have the program.
        if way.record == Record::Nothing {
            counts.extend(samples);
        }
    }
    Ok((rings, counts))
}

/// Whether the `perf_event` controller is on another hierarchy.
fn is_elsewhere(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::EBADF | libc::EINVAL)
    )
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::Measure;

    fn plan(unwind: Unwind, scope: Option<Scope>) -> Plan {
        Plan {
            service: "web".to_owned(),
            targets: vec![Target {
                generation: "gen1".to_owned(),
                cgroup: PathBuf::from("/"),
            }],
            measure: Measure::Cpu,
            frequency: 99,
            duration_ms: 1000,
            unwind,
            scope,
            room: None,
        }
    }

    #[test]
    fn only_frame_pointers_are_counted_in_the_kernel() {
        let first = |unwind, scope| {
            let ways = ways(&plan(unwind, scope), 2, &mut Vec::new());
            ways.first().map(|way| (way.scope, way.record))
        };
        assert_eq!(
            first(Unwind::Fp, None),
            Some((Scope::Filtered, Record::Nothing))
        );
        assert_eq!(
            first(Unwind::Auto, None),
            Some((Scope::Filtered, Record::Stack(STACK_BYTES)))
        );
        assert_eq!(
            first(Unwind::Fp, Some(Scope::Cgroup)),
            Some((Scope::Cgroup, Record::Chain))
        );
    }

    #[test]
    fn room_grows_with_the_samples_and_is_bounded() {
        let mut plan = plan(Unwind::Fp, None);
        assert_eq!(room(&plan, 2), 1024);
        assert_eq!(room(&plan, 8), 3168);
        assert_eq!(room(&plan, 1 << 20), 16384);
        plan.room = Some(3);
        assert_eq!(room(&plan, 8), 3);
    }
}
