//! Counts stacks as the records come.

use std::{
    collections::{HashMap, HashSet},
    fs,
    sync::Arc,
};

use hotlb_datapath::{Alike, Found};
use hotlb_sys::{
    cgroup::Cgroup,
    perf::{Event, Scope, UserStack},
    reader::printable,
};

use super::{
    Unwind,
    module::Modules,
    space::Space,
    stacks::{Address, Key, Tally},
    unwind::{StackUnwinder, chain, counted},
};

/// Everything that is known of sampled processes.
pub(super) struct Collector {
    pub(super) modules: Modules,
    spaces: HashMap<u32, Space>,
    threads: HashMap<u32, Arc<str>>,
    unwinder: StackUnwinder,
    /// Children of processes in `spaces` that had no sample yet.
    children: HashSet<u32>,
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
    scope: Scope,
}

impl Members {
    /// Those of `cgroup`, when `scope` is sampled.
    pub(super) fn of(cgroup: Cgroup, scope: Scope) -> Self {
        let pids = cgroup.pids().into_iter().collect();
        Self {
            cgroup,
            pids,
            others: HashSet::new(),
            scope,
        }
    }

    /// Those there were at the last look.
    pub(super) fn pids(&self) -> impl Iterator<Item = u32> {
        self.pids.iter().copied()
    }

    /// Looks who there is now; who was there stays, for records come late.
    pub(super) fn look(&mut self) {
        if self.scope == Scope::Host {
            self.pids.extend(self.cgroup.pids());
            self.others.clear();
        }
    }

    fn has(&mut self, pid: u32) -> bool {
        if self.scope != Scope::Host || self.pids.contains(&pid) {
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
            children: HashSet::new(),
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
            Event::Executed { pid } => {
                if self.is_of_interest(*pid, members) {
                    self.spaces.insert(*pid, Space::default());
                }
            }
            Event::Named { pid, tid, name } => {
                if self.is_of_interest(*pid, members) {
                    self.threads.insert(*tid, printable(name).into());
                }
            }
            // It is read at its first sample, or is a thread.
            Event::Forked { pid, parent } if pid != parent => {
                let is_child = self.is_of_interest(*parent, members);
                self.forget(*pid);
                if is_child {
                    self.children.insert(*pid);
                }
            }
            Event::Forked { .. } => {}
            Event::Exited { pid, tid } => {
                self.threads.remove(tid);
                if pid == tid {
                    self.forget(*pid);
                }
            }
            Event::Lost(count) => tally.lost += count,
            Event::Throttled => self.throttled = true,
        }
    }

    /// Whether it has to be known what becomes of a process: records come of all of the host unless
    /// the kernel samples by cgroup.
    fn is_of_interest(&self, pid: u32, members: &Members) -> bool {
        members.scope == Scope::Cgroup
            || self.spaces.contains_key(&pid)
            || self.children.contains(&pid)
    }

    fn forget(&mut self, pid: u32) {
        self.spaces.remove(&pid);
        self.children.remove(&pid);
    }

    /// Whether addresses of a process mean nothing any more, or something else, after this.
    pub(super) fn loses_mappings(&self, event: &Event<'_>) -> bool {
        match event {
            Event::Executed { pid } => self.spaces.contains_key(pid),
            Event::Exited { pid, tid } => pid == tid && self.spaces.contains_key(pid),
            _ => false,
        }
    }

    /// The stack of samples that the kernel counted.
    pub(super) fn counted(&mut self, alike: &Alike<'_>) -> Key {
        let pid = alike.pid;
        self.meet(pid);
        self.look_again(pid, alike.user.first().copied());
        let mut frames = std::mem::take(&mut self.frames);
        frames.clear();
        if let Some(space) = self.spaces.get(&pid) {
            counted((space, pid), alike, &mut frames);
        }
        let name = alike.name.split(|&byte| byte == 0).next();
        let name = String::from_utf8_lossy(name.unwrap_or_default());
        let key = Key {
            thread: printable(&name).into(),
            frames: frames.as_slice().into(),
        };
        self.frames = frames;
        key
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
