//! What the kernel's records say.

use perf_event::{
    Builder,
    data::{
        Record, SampleRegsAbi,
        endian::Native,
        parse::{ParseConfig, Parser},
    },
    events::Software,
};

use super::{Record as Asked, UserRegisters};

/// `PERF_RECORD_MISC_COMM_EXEC`: the name changed because another program was executed.
const BY_EXEC: u16 = 1 << 13;

/// One record.
#[derive(Debug)]
pub enum Event<'a> {
    /// A sample of a thread that was using a CPU.
    Sample {
        /// Its process.
        pid: u32,
        /// The thread.
        tid: u32,
        /// Addresses with `PERF_CONTEXT_*` marks between: innermost first.
        chain: &'a [u64],
        /// Its user side, where that was asked for and there is one of 64 bits.
        user: Option<UserStack<'a>>,
    },
    /// A file was mapped so that it can be executed.
    Mapped {
        /// The process.
        pid: u32,
        /// Where.
        start: u64,
        /// How much.
        length: u64,
        /// From where in the file.
        offset: u64,
        /// The file, or a name in brackets.
        path: String,
    },
    /// A process executed another program: its mappings are gone.
    Executed {
        /// The process.
        pid: u32,
    },
    /// A thread has another name.
    Named {
        /// Its process.
        pid: u32,
        /// The thread.
        tid: u32,
        /// The name.
        name: String,
    },
    /// A thread or process began.
    Forked {
        /// Its process.
        pid: u32,
        /// The process it comes from; the same for a thread.
        parent: u32,
    },
    /// A thread ended.
    Exited {
        /// Its process.
        pid: u32,
        /// The thread.
        tid: u32,
    },
    /// Records for which the ring buffer had no room.
    Lost(u64),
    /// The kernel held back samples because they took too long.
    Throttled,
}

/// The user side of a sample.
#[derive(Clone, Copy, Debug)]
pub struct UserStack<'a> {
    /// Its registers.
    pub registers: UserRegisters,
    /// The bytes from the stack pointer on.
    pub bytes: &'a [u8],
}

/// Bytes of [`misc`](hand_on) in a record's header.
const MISC: std::ops::Range<usize> = 4..6;

/// Hands on what `bytes` say, which are one record with its header, as the kernel would have written
/// it for events that ask for `asked`. Nothing, if they are none.
pub fn read_record(bytes: &[u8], asked: Asked, to: &mut dyn FnMut(Event<'_>)) {
    let mut event = Builder::new(Software::CPU_CLOCK);
    asked.ask_for(&mut event);
    let config = ParseConfig::<Native>::from(*event.attrs());
    let misc = bytes.get(MISC).and_then(|misc| misc.try_into().ok());
    // A copy: the kernel's records begin at a multiple of eight bytes, as what is allocated does.
    let bytes = bytes.to_vec();
    let record = Parser::new(bytes.as_slice(), config).parse::<Record<'_>>();
    if let (Some(misc), Ok(record)) = (misc, record) {
        hand_on(&record, u16::from_ne_bytes(misc), to);
    }
}

/// Hands `record` on as an [`Event`], unless it says nothing of use.
pub(super) fn hand_on(record: &Record<'_>, misc: u16, to: &mut dyn FnMut(Event<'_>)) {
    match record {
        Record::Sample(sample) => {
            let (Some(pid), Some(tid)) = (sample.pid(), sample.tid()) else {
                return;
            };
            let registers = sample
                .regs_user()
                .filter(|registers| registers.abi == SampleRegsAbi::ABI_64)
                .and_then(|registers| UserRegisters::read(&registers.regs));
            let bytes = sample.stack_user().unwrap_or_default();
            to(Event::Sample {
                pid,
                tid,
                chain: sample.callchain().unwrap_or_default(),
                user: registers.map(|registers| UserStack { registers, bytes }),
            });
        }
        Record::Mmap2(mapped) => to(Event::Mapped {
            pid: mapped.pid,
            start: mapped.addr,
            length: mapped.len,
            offset: mapped.pgoff,
            path: text(&mapped.filename),
        }),
        Record::Comm(comm) => {
            if misc & BY_EXEC != 0 {
                to(Event::Executed { pid: comm.pid });
            }
            to(Event::Named {
                pid: comm.pid,
                tid: comm.tid,
                name: text(&comm.comm),
            });
        }
        Record::Fork(fork) => to(Event::Forked {
            pid: fork.pid,
            parent: fork.ppid,
        }),
        Record::Exit(exit) => to(Event::Exited {
            pid: exit.pid,
            tid: exit.tid,
        }),
        Record::Lost(lost) => to(Event::Lost(lost.lost)),
        Record::LostSamples(lost) => to(Event::Lost(lost.lost)),
        Record::Throttle(_) => to(Event::Throttled),
        _ => {}
    }
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0);
    let bytes = end.and_then(|end| bytes.get(..end)).unwrap_or(bytes);
    String::from_utf8_lossy(bytes).into_owned()
}
