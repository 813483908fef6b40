//! Where threads wait: loads `waiting`, has it look, and reads what it found.

use std::{
    fmt,
    io::{self, Read as _},
};

use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{Array, HashMap, MapData, RingBuf},
    programs::Iter,
};
use hotlb_sys::{heap::GivesBack, perf::UserRegisters};
use lb_common::{names, wait};

use super::{DatapathError, kernel_fields, object, registers, verified::verified};

/// Bytes of the ring: some 490 stacks for one look. Kernel memory that cannot be swapped out.
const RING: u32 = 8 << 20;
/// Processes of the generations.
const PROCESSES: u32 = 4096;
/// Threads that are known from the look before; more of them have their stack copied each time.
const THREADS: u32 = 16384;

/// The program that looks where threads wait. It is gone with this value, and runs only in
/// [`Waits::look`], on the caller's CPU time.
pub struct Waits {
    object: Ebpf,
    ring: RingBuf<MapData>,
    members: HashMap<MapData, u32, u32>,
    seen: HashMap<MapData, u32, [u64; 2]>,
    totals: Array<MapData, [u64; wait::TOTALS]>,
}

/// A thread that was found off the CPUs.
#[derive(Debug)]
pub struct Found<'a> {
    /// Its process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// The number its process was entered with.
    pub target: u32,
    /// It could go on, but has no CPU.
    pub is_runnable: bool,
    /// How many looks before found it as its record before this one says, beyond that record.
    pub repeats: u64,
    /// The kernel's frames, innermost first.
    pub kernel: &'a [u64],
    /// Where its user side stopped.
    pub registers: UserRegisters,
    /// The bytes from the stack pointer on; none if they could not be read.
    pub stack: &'a [u8],
}

/// What was counted of a target's threads, over all looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Threads found.
    pub found: u64,
    /// Those that were on a CPU.
    pub running: u64,
    /// Those for whose stack there was no room.
    pub lost: u64,
    /// Those that went on while they were looked at.
    pub torn: u64,
}

impl fmt::Debug for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waits").finish_non_exhaustive()
    }
}

impl Waits {
    /// Loads the program, with maps of its own.
    ///
    /// # Errors
    ///
    /// When the kernel does not describe its types, or does not take the program: it needs sleepable
    /// iterators over tasks and `bpf_copy_from_user_task` (5.18).
    pub fn open() -> Result<Self, DatapathError> {
        let _after = GivesBack::at_the_end();
        let fields = kernel_fields::task_fields().map_err(DatapathError::Types)?;
        let registers = registers::registers();
        let mut loader = EbpfLoader::new();
        for (name, at) in fields.iter().chain(&registers) {
            loader.override_global(name, at, true);
        }
        for (name, size) in names::OF_WAITING
            .into_iter()
            .zip([RING, PROCESSES, THREADS])
        {
            loader.map_max_entries(name, size);
        }
        let mut object = object::load_alone(loader)?;
        let types = Btf::from_sys_fs().map_err(|error| DatapathError::Types(error.to_string()))?;
        let waiting = program(&mut object)?;
        verified(|| waiting.load("task", &types))
            .map_err(DatapathError::program(names::WAITING))?;
        Ok(Self {
            ring: object::taken(&mut object, names::WAITS)?,
            members: object::taken(&mut object, names::MEMBERS)?,
            seen: object::taken(&mut object, names::SEEN)?,
            totals: object::taken(&mut object, names::WAIT_TOTALS)?,
            object,
        })
    }

    /// From now on threads of process `pid` are of `target`, a number below [`wait::TARGETS`].
    ///
    /// # Errors
    ///
    /// When there are too many.
    pub fn enter(&mut self, pid: u32, target: u32) -> Result<(), DatapathError> {
        let entered = self.members.insert(pid, target, 0);
        entered.map_err(DatapathError::map(names::MEMBERS))
    }

    /// Looks once at every thread; hands on those off the CPUs that are not as they were.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn look(&mut self, to: &mut dyn FnMut(Found<'_>)) -> Result<(), DatapathError> {
        let program = program(&mut self.object)?;
        // An iterator goes through the tasks once.
        let mut tasks = program
            .attach()
            .and_then(|id| program.take_link(id))
            .map_err(DatapathError::program(names::WAITING))?
            .into_file()
            .map_err(|error| DatapathError::Program {
                name: names::WAITING,
                reason: error.to_string(),
            })?;
        read_all(&mut tasks).map_err(DatapathError::system("go through the tasks"))?;
        let mut words = Vec::with_capacity(wait::KERNEL_FRAMES);
        while let Some(record) = self.ring.next() {
            if let Some(found) = found(&record, &mut words) {
                to(found);
            }
        }
        Ok(())
    }

    /// Threads, and how many looks found each as its last record says, beyond that record.
    pub fn repeats(&self) -> Vec<(u32, u64)> {
        let known = self.seen.iter().filter_map(Result::ok);
        known.map(|(tid, [_, repeats])| (tid, repeats)).collect()
    }

    /// What was counted.
    pub fn totals(&self, target: u32) -> Totals {
        let word = self.totals.get(&target, 0).unwrap_or_default();
        let [found, running, lost, torn] = word;
        Totals {
            found,
            running,
            lost,
            torn,
        }
    }
}

fn program(object: &mut Ebpf) -> Result<&mut Iter, DatapathError> {
    object
        .program_mut(names::WAITING)
        .ok_or(DatapathError::Missing(names::WAITING))?
        .try_into()
        .map_err(DatapathError::program(names::WAITING))
}

/// The program writes nothing into the file: it is read to its end to have it run.
fn read_all(tasks: &mut std::fs::File) -> io::Result<()> {
    let mut nothing = [0; 64];
    loop {
        match tasks.read(&mut nothing) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            // It has been through a million tasks without a byte, and goes on when asked again.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn found<'a>(record: &'a [u8], frames: &'a mut Vec<u64>) -> Option<Found<'a>> {
    let word = |index: usize| {
        let bytes = record.get(index * 8..)?.first_chunk()?;
        Some(u64::from_ne_bytes(*bytes))
    };
    let halves = |index: usize| Some(split(word(index)?));
    let (tid, pid) = halves(wait::THREAD)?;
    let (target, state) = halves(wait::OF)?;
    let (kernel, stack) = halves(wait::LENGTHS)?;
    let kernel = usize::try_from(kernel / 8).ok()?.min(wait::KERNEL_FRAMES);
    frames.clear();
    for index in 0..kernel {
        frames.push(word(wait::KERNEL + index)?);
    }
    let stack = usize::try_from(stack).ok()?.min(wait::STACK_BYTES);
    Some(Found {
        pid,
        tid,
        target,
        is_runnable: state == wait::RUNNABLE,
        repeats: word(wait::REPEATS)?,
        kernel: frames,
        registers: UserRegisters {
            ip: word(wait::REGISTERS)?,
            sp: word(wait::REGISTERS + 1)?,
            fp: word(wait::REGISTERS + 2)?,
            lr: word(wait::REGISTERS + 3)?,
        },
        stack: record.get(wait::STACK * 8..)?.get(..stack)?,
    })
}

/// The lower half and the upper.
#[expect(clippy::cast_possible_truncation, reason = "each half is wanted")]
const fn split(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_is_cut_off_says_nothing() {
        let mut frames = Vec::new();
        let mut record = vec![0; wait::WORDS * 8];
        record[wait::THREAD * 8] = 7;
        record[wait::LENGTHS * 8] = 16;
        record[wait::KERNEL * 8 + 8] = 9;
        let read = found(&record, &mut frames).unwrap();
        assert_eq!(
            (read.tid, read.kernel, read.stack),
            (7, &[0, 9][..], &[][..])
        );
        assert!(found(&record[..64], &mut Vec::new()).is_none());
    }
}
