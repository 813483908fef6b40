//! Stacks as addresses, counted.

use std::{collections::HashMap, sync::Arc};

use super::module::ModuleId;

/// Where a frame of a stack is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Address {
    /// In the kernel.
    Kernel(u64),
    /// At this offset of a file.
    File {
        /// The file.
        module: ModuleId,
        /// The offset.
        offset: u64,
    },
    /// In code that a process made at run time.
    Jit {
        /// The process.
        pid: u32,
        /// Its address there.
        address: u64,
    },
    /// Where nothing is mapped.
    Unknown,
    /// The stack goes on, but its callers were not found.
    Truncated,
    /// Not in code at all: it could go on, but has no CPU.
    Runnable,
}

/// A stack: the thread's name, and addresses, innermost first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The thread's name.
    pub(super) thread: Arc<str>,
    /// Its frames.
    pub(super) frames: Box<[Address]>,
}

/// What was counted of one generation.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Stacks and how often each was sampled.
    pub(super) stacks: HashMap<Key, u64>,
    /// Samples.
    pub(super) samples: u64,
    /// Those whose outermost callers were not found.
    pub(super) truncated: u64,
    /// Records for which there was no room.
    pub(super) lost: u64,
}

impl Tally {
    /// Counts all that another one has.
    pub(super) fn merge(&mut self, other: &Self) {
        self.samples += other.samples;
        self.truncated += other.truncated;
        self.lost += other.lost;
        for (key, count) in &other.stacks {
            *self.stacks.entry(key.clone()).or_default() += count;
        }
    }

    /// Frames of all stacks: what it takes of memory.
    pub(super) fn frames(&self) -> usize {
        self.stacks.keys().map(|key| key.frames.len()).sum()
    }

    /// Counts a stack that was found `times`.
    pub(super) fn add(&mut self, key: Key, times: u64) {
        self.samples += times;
        if key.frames.contains(&Address::Truncated) {
            self.truncated += times;
        }
        *self.stacks.entry(key).or_default() += times;
    }
}
