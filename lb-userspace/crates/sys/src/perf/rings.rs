//! One event and one ring buffer for each CPU.

use std::{
    fmt,
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
    time::Duration,
};

use perf_event::{Builder, SampleFlag, Sampler, events::Software};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use super::{Event, UserRegisters, event::hand_on};

/// Bytes of all ring buffers together: kernel memory that cannot be swapped out.
const ALL_RINGS: usize = 32 << 20;
/// The largest ring buffer of a CPU: half a second of 16 KiB samples at 999 Hz needs 8 MiB.
const LARGEST_RING: usize = 8 << 20;
/// The smallest one that holds a few samples.
const SMALLEST_RING: usize = 256 << 10;

/// Which processes the kernel samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The processes of a cgroup and those below it: a BPF program decides at each sample of a CPU.
    Filtered,
    /// The processes of a cgroup and those below it, by events of the cgroup (`PERF_FLAG_PID_CGROUP`): the kernel
    /// switches them on and off when a CPU goes from one cgroup to another.
    Cgroup,
    /// Every process of the host: hotlb leaves out the others afterwards. For hosts whose `perf_event` controller is on
    /// another hierarchy than cgroup2.
    Host,
}

/// What is sampled, and how.
#[derive(Debug)]
pub struct Sampling<'a> {
    /// The cgroup's directory.
    pub cgroup: &'a File,
    /// Samples per second of CPU time, at least 1.
    pub frequency: u32,
    /// What a record of a sample has.
    pub record: Record,
    /// The BPF program that is asked at each sample; its number goes on for as long as the events.
    pub program: Option<BorrowedFd<'a>>,
    /// Whom.
    pub scope: Scope,
}

/// What the kernel writes of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// Nothing: the program counts. Only what becomes of processes is written.
    Nothing,
    /// The call chain, for which the kernel follows the user's frame pointers.
    Chain,
    /// The kernel's call chain, registers, and so many bytes of the user's stack, a multiple of 8 up
    /// to 65528.
    Stack(u32),
}

impl Record {
    /// Has the records of `event` have it.
    pub(super) fn ask_for(self, event: &mut Builder<'_>) {
        event.sample(SampleFlag::TID | SampleFlag::TIME);
        if self != Self::Nothing {
            event.sample(SampleFlag::CALLCHAIN);
        }
        if let Self::Stack(bytes) = self {
            event
                .exclude_callchain_user(true)
                .sample(SampleFlag::REGS_USER | SampleFlag::STACK_USER)
                .sample_regs_user(UserRegisters::mask())
                .sample_stack_user(bytes);
        }
    }
}

/// The events of one cgroup on all CPUs. Sampling ends when it is dropped.
pub struct Rings {
    samplers: Vec<Sampler>,
}

impl Rings {
    /// Opens them; nothing is sampled yet.
    ///
    /// # Errors
    ///
    /// What `perf_event_open(2)` says: EACCES or EPERM without `CAP_PERFMON`; ENOENT or EBADF where
    /// the `perf_event` controller is not on the cgroup's hierarchy; ENOSYS without perf events.
    pub fn open(sampling: &Sampling<'_>, cpus: &[usize]) -> io::Result<Self> {
        let largest = match sampling.record {
            Record::Nothing => SMALLEST_RING,
            Record::Chain | Record::Stack(_) => LARGEST_RING,
        };
        let ring = (ALL_RINGS / cpus.len().max(1)).clamp(SMALLEST_RING, largest);
        let ring = 1 << ring.ilog2();
        let mut samplers = Vec::with_capacity(cpus.len());
        for &cpu in cpus {
            match event(sampling, cpu, ring).build() {
                Ok(mut counter) => {
                    if let Some(program) = sampling.program {
                        counter.set_bpf(program.as_raw_fd())?;
                    }
                    samplers.push(counter.sampled(ring)?);
                }
                // A CPU that went offline meanwhile.
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self { samplers })
    }

    /// Begins to sample.
    pub fn enable(&mut self) -> io::Result<()> {
        let mut samplers = self.samplers.iter_mut();
        samplers.try_for_each(|sampler| sampler.enable())
    }

    /// Stops; what was sampled can still be read.
    pub fn disable(&mut self) -> io::Result<()> {
        let mut samplers = self.samplers.iter_mut();
        samplers.try_for_each(|sampler| sampler.disable())
    }

    /// Reads what there is, CPU by CPU.
    pub fn read(&mut self, to: &mut dyn FnMut(Event<'_>)) {
        for sampler in &mut self.samplers {
            while let Some(record) = sampler.next_record() {
                // One that is not understood says nothing of use.
                if let Ok(parsed) = record.parse_record() {
                    hand_on(&parsed, record.misc(), to);
                }
            }
        }
    }

    /// Waits until a ring of one of `all` is half full or `asker` hangs up, but no longer than
    /// `limit`. True: the asker has hung up.
    pub fn wait(all: &[Self], asker: impl AsFd, limit: Duration) -> io::Result<bool> {
        let mut fds = vec![PollFd::from_borrowed_fd(asker.as_fd(), PollFlags::empty())];
        for sampler in all.iter().flat_map(|rings| &rings.samplers) {
            fds.push(PollFd::from_borrowed_fd(descriptor(sampler), PollFlags::IN));
        }
        let limit = Timespec::try_from(limit).map_err(io::Error::other)?;
        match poll(&mut fds, Some(&limit)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let hung_up = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
        Ok(fds
            .first()
            .is_some_and(|asker| asker.revents().intersects(hung_up)))
    }
}

impl fmt::Debug for Rings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rings")
            .field("cpus", &self.samplers.len())
            .finish_non_exhaustive()
    }
}

#[expect(unsafe_code, reason = "the crate gives out its descriptor as a number")]
fn descriptor(sampler: &Sampler) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is open as long as the sampler, which the result borrows.
    unsafe { BorrowedFd::borrow_raw(sampler.as_raw_fd()) }
}

fn event<'a>(sampling: &Sampling<'a>, cpu: usize, ring: usize) -> Builder<'a> {
    // Virtual machines have no hardware counters; the clock is everywhere.
    let mut event = Builder::new(Software::CPU_CLOCK);
    event
        .one_cpu(cpu)
        .enabled(false)
        .include_kernel()
        .include_hv()
        .exclude_idle(true)
        .sample_frequency(u64::from(sampling.frequency))
        .mmap(true)
        .mmap2(true)
        .comm(true)
        .comm_exec(true)
        .task(true)
        .wakeup_watermark(ring / 2);
    match sampling.scope {
        Scope::Cgroup => event.observe_cgroup(sampling.cgroup),
        Scope::Filtered | Scope::Host => event.any_pid(),
    };
    sampling.record.ask_for(&mut event);
    event
}
