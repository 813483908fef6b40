//! What `waiting` says of a thread that is not on a CPU, as a record of words.

/// Frames of the kernel's side of a stack.
pub const KERNEL_FRAMES: usize = 64;
/// Bytes of the user's side of a stack: whole pages.
pub const STACK_BYTES: usize = 16 << 10;
/// Bytes of the smallest page, by which a stack is copied: what lies behind its end is not mapped.
pub const PAGE: usize = 4096;

/// Word of a record: the thread (lower half) and its process.
pub const THREAD: usize = 0;
/// Word of a record: the number of its generation (lower half) and whether it is [`RUNNABLE`].
pub const OF: usize = 1;
/// Word of a record: how often the thread was found as its record before said, beyond that record.
pub const REPEATS: usize = 2;
/// Words of a record: user registers, in this order: instruction, stack and frame pointer, link
/// register.
pub const REGISTERS: usize = 3;
/// Word of a record: bytes of the kernel's frames (lower half) and of the stack.
pub const LENGTHS: usize = 7;
/// Words of a record: the kernel's frames, innermost first.
pub const KERNEL: usize = 8;
/// Words of a record: the stack from the stack pointer on.
pub const STACK: usize = KERNEL + KERNEL_FRAMES;
/// Words of a record.
pub const WORDS: usize = STACK + STACK_BYTES / 8;

/// In the upper half of word [`OF`]: it could go on, but has no CPU.
pub const RUNNABLE: u32 = 1;

/// Generations that are looked at side by side.
pub const TARGETS: u32 = 2;

/// Word of a target's totals: threads that were found, look by look.
pub const FOUND: usize = 0;
/// Word of a target's totals: those of them that were on a CPU.
pub const RUNNING: usize = 1;
/// Word of a target's totals: those for whose record there was no room.
pub const LOST: usize = 2;
/// Word of a target's totals: those that went on while their stack was copied.
pub const TORN: usize = 3;
/// Words of a target's totals.
pub const TOTALS: usize = 4;
