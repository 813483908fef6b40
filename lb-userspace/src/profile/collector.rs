//! Counts stacks as the records come.

use std::{
    collections::{HashMap, HashSet},
    fs,
    sync::Arc,
};

use super::{
    Unwind,
    module::Modules,
    space::Space,
    stacks::{Address, Key, Tally},
    unwind::{StackUnwinder, chain},
};
use crate::{
    datapath::Found,
    sys::{
        cgroup::Cgroup,
        perf::{Event, UserStack},
        reader::printable,
    },
};

/// Everything that is known of sampled processes.
pub(super) struct Collector {
    pub(super) modules: Modules,
    spaces: HashMap<u32, Space>,
    threads: HashMap<u32, Arc<str>>,
    unwinder: StackUnwinder,
    /// Processes whose mappings were looked up again since the last [`Collector::next_look`].
    looked_again: HashSet<u32>,
    frames: Vec<Address>,
    pub(super) throttled: bool,
}

/// Of the records of one generation's rings, those that are its own.
pub(super) struct Members {
    cgroup: Cgroup,
    pids: HashSet<u32>,
    /// Processes that are not of it, since the last look.
    others: HashSet<u32>,
    all: bool,
}

impl Members {
    /// Those of `cgroup`; `all`: the kernel sends no others.
    pub(super) fn of(cgroup: Cgroup, all: bool) -> Self {
        let pids = cgroup.pids().into_iter().collect();
        Self {
            cgroup,
            pids,
            others: HashSet::new(),
            all,
        }
    }

    /// Those there were at the last look.
    pub(super) fn pids(&self) -> impl Iterator<Item = u32> {
        self.pids.iter().copied()
    }

    /// Looks who there is now; who was there stays, for records come late.
    pub(super) fn look(&mut self) {
        if !self.all {
            self.pids.extend(self.cgroup.pids());
            self.others.clear();
        }
    }

    fn has(&mut self, pid: u32) -> bool {
        if self.all || self.pids.contains(&pid) {
            return true;
        }
        if !self.others.insert(pid) {
            return false;
        }
        self.pids.extend(self.cgroup.pids());
        self.pids.contains(&pid)
    }
}

impl Collector {
    /// One that knows nothing yet.
    pub(super) fn new(unwind: Unwind) -> Self {
        Self {
            modules: Modules::default(),
            spaces: HashMap::new(),
            threads: HashMap::new(),
            unwinder: StackUnwinder::new(unwind),
            looked_again: HashSet::new(),
            frames: Vec::new(),
            throttled: false,
        }
    }

    /// Looks at a process before its first sample.
    pub(super) fn meet(&mut self, pid: u32) {
        if !self.spaces.contains_key(&pid) {
            self.spaces.insert(pid, Space::read(pid, &mut self.modules));
        }
    }

    /// From now on mappings may be looked up again.
    pub(super) fn next_look(&mut self) {
        self.looked_again.clear();
    }

    /// Takes a record in.
    pub(super) fn take(&mut self, event: &Event<'_>, members: &mut Members, tally: &mut Tally) {
        match event {
            Event::Sample {
                pid,
                tid,
                chain,
                user,
            } => {
                if members.has(*pid) {
                    tally.add(self.sample((*pid, *tid), chain, user.as_ref()), 1);
                }
            }
            Event::Mapped {
                pid,
                start,
                length,
                offset,
                path,
            } => {
                if let Some(space) = self.spaces.get_mut(pid) {
                    let range = *start..start.saturating_add(*length);
                    space.map(*pid, range, *offset, path, &mut self.modules);
                }
            }
            Event::Executed { pid } => drop(self.spaces.insert(*pid, Space::default())),
            Event::Named { tid, name } => {
                self.threads.insert(*tid, printable(name).into());
            }
            // It is read at its first sample, or is a thread.
            Event::Forked { pid, parent } if pid != parent => drop(self.spaces.remove(pid)),
            Event::Forked { .. } => {}
            Event::Exited { pid, tid } => {
                self.threads.remove(tid);
                if pid == tid {
                    self.spaces.remove(pid);
                }
            }
            Event::Lost(count) => tally.lost += count,
            Event::Throttled => self.throttled = true,
        }
    }

    /// The stack of a thread that waits.
    pub(super) fn waiting(&mut self, found: &Found<'_>) -> Key {
        let mut frames = std::mem::take(&mut self.frames);
        frames.clear();
        if found.is_runnable {
            frames.push(Address::Runnable);
        }
        frames.extend(found.kernel.iter().map(|&address| Address::Kernel(address)));
        let user = UserStack {
            registers: found.registers,
            bytes: found.stack,
        };
        let user = (!found.stack.is_empty()).then_some(&user);
        self.user((found.pid, found.tid), user, frames)
    }

    fn sample(
        &mut self,
        (pid, tid): (u32, u32),
        kernel: &[u64],
        user: Option<&UserStack<'_>>,
    ) -> Key {
        self.meet(pid);
        let mut frames = std::mem::take(&mut self.frames);
        frames.clear();
        let space = self.spaces.get(&pid);
        chain(space.map(|space| (space, pid)), kernel, &mut frames);
        self.user((pid, tid), user, frames)
    }

    /// Adds the user side to the kernel's `frames`.
    fn user(
        &mut self,
        (pid, tid): (u32, u32),
        user: Option<&UserStack<'_>>,
        mut frames: Vec<Address>,
    ) -> Key {
        self.meet(pid);
        let leaf = user.map(|user| user.registers.ip);
        self.look_again(pid, leaf);
        let space = self.spaces.get(&pid);
        if let (Some(space), Some(user)) = (space, user) {
            self.unwinder.user(space, pid, user, &mut frames);
        }
        let key = Key {
            thread: self.thread(pid, tid),
            frames: frames.as_slice().into(),
        };
        self.frames = frames;
        key
    }

    /// Reads the mappings again if they do not explain where a thread is: once in each look.
    fn look_again(&mut self, pid: u32, leaf: Option<u64>) {
        let unexplained = leaf.is_some_and(|leaf| {
            let space = self.spaces.get(&pid);
            !space.is_some_and(|space| space.knows(leaf))
        });
        if unexplained && self.looked_again.insert(pid) {
            let now = Space::read(pid, &mut self.modules);
            if leaf.is_some_and(|leaf| now.knows(leaf)) {
                self.spaces.insert(pid, now);
            }
        }
    }

    fn thread(&mut self, pid: u32, tid: u32) -> Arc<str> {
        let read = || {
            let name = fs::read_to_string(format!("/proc/{pid}/task/{tid}/comm"));
            let name = name.unwrap_or_else(|_gone| "[ended]".to_owned());
            printable(name.trim_end()).into()
        };
        Arc::clone(self.threads.entry(tid).or_insert_with(read))
    }
}
