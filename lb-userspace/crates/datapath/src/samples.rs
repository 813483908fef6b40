//! Samples of one cgroup: loads `sample`, and reads what it counted.

use std::{
    collections::{HashMap as Known, HashSet},
    fmt,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, CgroupArray, HashMap, MapData},
    programs::PerfEvent,
    util::nr_cpus,
};
use hotlb_sys::heap::GivesBack;
use lb_common::{names, sample};

use super::{DatapathError, object, registers, verified::verified};

type Stack = [u64; sample::STACK_WORDS];
type Pair = [u64; sample::KEY_WORDS];

/// The program that is asked at each sample, for one cgroup. Events it is attached to keep it, and
/// all it needs.
pub struct Samples {
    object: Ebpf,
    stacks: HashMap<MapData, u64, Stack>,
    pairs: HashMap<MapData, Pair, u64>,
    totals: Array<MapData, [u64; sample::TOTALS]>,
    room: u64,
    /// What had been entered when it was read last.
    entered: u64,
    /// Samples that were handed on.
    read: u64,
}

/// What becomes of samples of the cgroup's tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// The kernel writes a record of each.
    Records,
    /// They are counted: so many stacks, and as many pairs of them, find room between two calls of
    /// [`Samples::read`].
    Counts(u32),
}

/// Samples that are alike.
#[derive(Debug)]
pub struct Alike<'a> {
    /// The process.
    pub pid: u32,
    /// The thread's name, up to 16 bytes with a zero behind it.
    pub name: [u8; 16],
    /// The kernel's frames, innermost first.
    pub kernel: &'a [u64],
    /// The user's frames, innermost first.
    pub user: &'a [u64],
    /// The user's side has more callers than were found.
    pub goes_on: bool,
    /// How many.
    pub count: u64,
}

impl fmt::Debug for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Samples")
            .field("room", &self.room)
            .field("read", &self.read)
            .finish_non_exhaustive()
    }
}

impl Samples {
    /// Loads the program for the cgroup whose directory is open as `cgroup`, and all below it.
    ///
    /// # Errors
    ///
    /// When the kernel does not take the program: it needs `bpf_task_pt_regs` (5.15) to count.
    pub fn open(cgroup: BorrowedFd<'_>, how: Use) -> Result<Self, DatapathError> {
        let cpus = nr_cpus().map_err(|(doing, source)| DatapathError::System { doing, source })?;
        let (counting, room, drafts): (u32, _, _) = match how {
            Use::Records => (0, 1, 1),
            Use::Counts(room) => (1, room.max(1), u32::try_from(cpus).unwrap_or(u32::MAX)),
        };
        let mut loader = EbpfLoader::new();
        let registers = registers::registers();
        let mode = registers::mode();
        for (name, value) in registers.iter().chain(&mode) {
            loader.override_global(name, value, true);
        }
        loader.override_global(names::COUNTING, &counting, true);
        for (name, size) in names::OF_SAMPLE.into_iter().zip([room, room, drafts]) {
            loader.map_max_entries(name, size);
        }
        let mut object = {
            let _after = GivesBack::at_the_end();
            object::load_alone(loader)?
        };
        let program: &mut PerfEvent = object
            .program_mut(names::SAMPLE)
            .ok_or(DatapathError::Missing(names::SAMPLE))?
            .try_into()
            .map_err(DatapathError::program(names::SAMPLE))?;
        verified(|| program.load()).map_err(DatapathError::program(names::SAMPLE))?;
        let mut sampled: CgroupArray<MapData> = object::taken(&mut object, names::SAMPLED)?;
        sampled
            .set(0, cgroup.as_raw_fd(), 0)
            .map_err(DatapathError::map(names::SAMPLED))?;
        Ok(Self {
            stacks: object::taken(&mut object, names::STACKS)?,
            pairs: object::taken(&mut object, names::SAMPLES)?,
            totals: object::taken(&mut object, names::SAMPLE_TOTALS)?,
            object,
            room: room.into(),
            entered: 0,
            read: 0,
        })
    }

    /// The program, to be attached to events.
    ///
    /// # Errors
    ///
    /// When the object has none: the build is broken.
    pub fn program(&self) -> Result<BorrowedFd<'_>, DatapathError> {
        let program = self.object.program(names::SAMPLE);
        let program = program.ok_or(DatapathError::Missing(names::SAMPLE))?;
        let fd = program
            .fd()
            .map_err(DatapathError::program(names::SAMPLE))?;
        Ok(fd.as_fd())
    }

    /// Whether half of the room is taken.
    pub fn fills(&self) -> bool {
        let [_, entered] = self.totals();
        entered.saturating_sub(self.entered) * 2 > self.room
    }

    /// Samples of the cgroup's tasks that were not handed on: there was no room for their stacks.
    /// It is exact after [`Samples::read`] once nothing is sampled any more.
    pub fn lost(&self) -> u64 {
        let [taken, _] = self.totals();
        taken.saturating_sub(self.read)
    }

    /// Hands on what was counted since the last call, and makes room.
    ///
    /// # Errors
    ///
    /// What the system says of the maps.
    pub fn read(&mut self, to: &mut dyn FnMut(Alike<'_>)) -> Result<(), DatapathError> {
        let [_, entered] = self.totals();
        self.entered = entered;
        // A walk through a map that changes meanwhile may come by the same key twice.
        let walked: Result<Known<Pair, u64>, _> = self.pairs.iter().collect();
        let walked = walked.map_err(DatapathError::map(names::SAMPLES))?;
        let mut known = Known::new();
        for (pair, count) in walked {
            for number in [sample::KERNEL, sample::USER].map(|word| word_of(&pair, word)) {
                if number != sample::NO_STACK
                    && !known.contains_key(&number)
                    && let Ok(stack) = self.stacks.get(&number, 0)
                {
                    known.insert(number, stack);
                }
            }
            let _gone = self.pairs.remove(&pair);
            if let Some(alike) = alike(&pair, count, &known) {
                self.read += count;
                to(alike);
            }
        }
        let numbers: Result<HashSet<u64>, _> = self.stacks.keys().collect();
        for number in numbers.map_err(DatapathError::map(names::STACKS))? {
            let _gone = self.stacks.remove(&number);
        }
        Ok(())
    }

    fn totals(&self) -> [u64; sample::TOTALS] {
        self.totals.get(&0, 0).unwrap_or_default()
    }
}

fn word_of(words: &[u64], word: usize) -> u64 {
    words.get(word).copied().unwrap_or_default()
}

/// `None`: one of its stacks is not there.
fn alike<'a>(pair: &Pair, count: u64, known: &'a Known<u64, Stack>) -> Option<Alike<'a>> {
    let side = |word| match word_of(pair, word) {
        sample::NO_STACK => Some((&[][..], false)),
        number => known.get(&number).map(frames),
    };
    let (kernel, _) = side(sample::KERNEL)?;
    let (user, goes_on) = side(sample::USER)?;
    let mut name = [0; 16];
    let words = [sample::NAME, sample::NAME + 1].map(|word| word_of(pair, word).to_ne_bytes());
    for (to, from) in name.iter_mut().zip(words.as_flattened()) {
        *to = *from;
    }
    Some(Alike {
        pid: u32::try_from(word_of(pair, sample::PROCESS)).ok()?,
        name,
        kernel,
        user,
        goes_on,
        count,
    })
}

/// The frames of a stack, and whether it goes on.
fn frames(stack: &Stack) -> (&[u64], bool) {
    let [header, frames @ ..] = stack;
    let count = usize::try_from(header & (sample::GOES_ON - 1)).unwrap_or(frames.len());
    let frames = frames.get(..count).unwrap_or(frames);
    (frames, header & sample::GOES_ON != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_put_together_from_its_stacks() {
        let mut stack = [0; sample::STACK_WORDS];
        stack[0] = 2 | sample::GOES_ON;
        stack[1] = 0x10;
        stack[2] = 0x20;
        let known = Known::from([(7, stack)]);
        let mut pair = [0; sample::KEY_WORDS];
        pair[sample::PROCESS] = 42;
        pair[sample::NAME] = u64::from_ne_bytes(*b"nginx\0\0\0");
        pair[sample::USER] = 7;
        let read = alike(&pair, 3, &known).unwrap();
        assert_eq!((read.pid, read.count, read.goes_on), (42, 3, true));
        assert_eq!((read.kernel, read.user), (&[][..], &[0x10, 0x20][..]));
        assert!(read.name.starts_with(b"nginx\0"));
        pair[sample::KERNEL] = 8;
        assert!(alike(&pair, 3, &known).is_none());
    }

    #[test]
    fn a_header_that_lies_has_no_more_frames_than_there_is_room_for() {
        let mut stack = [0; sample::STACK_WORDS];
        stack[0] = 4000;
        assert_eq!(frames(&stack).0.len(), sample::FRAMES);
    }
}
