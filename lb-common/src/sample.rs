//! What `sample` counts at a perf event: pairs of stacks, each stack under a number of its own.

/// Frames of one side of a stack.
pub const FRAMES: usize = 127;
/// Words of a stack: how many frames it has, in the lower half, with [`GOES_ON`]; then the frames,
/// innermost first.
pub const STACK_WORDS: usize = FRAMES + 1;
/// In the first word of a stack: it has more callers than were found.
pub const GOES_ON: u64 = 1 << 32;
/// The number of a side that has no frames. No stack has it.
pub const NO_STACK: u64 = 0;

/// Word of a key: the process.
pub const PROCESS: usize = 0;
/// Words of a key: the thread's name, 16 bytes that end with a zero.
pub const NAME: usize = 1;
/// Word of a key: the number of the kernel's side.
pub const KERNEL: usize = 3;
/// Word of a key: the number of the user's side.
pub const USER: usize = 4;
/// Words of a key.
pub const KEY_WORDS: usize = 5;

/// Word of the totals: samples of the cgroup's tasks, also those that found no room.
pub const TAKEN: usize = 0;
/// Word of the totals: stacks and pairs that were entered; they take up room until they are read.
pub const ENTERED: usize = 1;
/// Words of the totals.
pub const TOTALS: usize = 2;
