//! What processes have mapped, and where.

use std::{collections::BTreeMap, fs::File, io, ops::Range, os::unix::fs::OpenOptionsExt as _};

use framehop::{Unwinder as _, UnwinderNative};
use hotlb_sys::file_view::FileView;
use procfs::process::{MMPermissions, MMapPath, Process};
use rustix::fs::OFlags;

use super::{
    module::{ModuleId, Modules},
    stacks::Address,
};

/// How the unwinder of one process looks.
pub(super) type Unwinder = UnwinderNative<FileView, framehop::MayAllocateDuringUnwind>;

/// The address space of a process.
#[derive(Default)]
pub(super) struct Space {
    mappings: BTreeMap<u64, Mapping>,
    unwinder: Unwinder,
}

/// One mapping that can be executed.
#[derive(Clone, Copy, Debug)]
struct Mapping {
    end: u64,
    offset: u64,
    /// `None`: code made at run time.
    module: Option<ModuleId>,
    has_tables: bool,
}

impl Space {
    /// Reads what a process has mapped now; nothing for one that has ended.
    pub(super) fn read(pid: u32, modules: &mut Modules) -> Self {
        let mut space = Self::default();
        let process = i32::try_from(pid)
            .ok()
            .and_then(|pid| Process::new(pid).ok());
        let maps = process.and_then(|process| process.maps().ok());
        for map in maps.into_iter().flatten() {
            if !map.perms.contains(MMPermissions::EXECUTE) {
                continue;
            }
            let name = match &map.pathname {
                MMapPath::Path(path) => path.to_string_lossy().into_owned(),
                MMapPath::Vdso => "[vdso]".to_owned(),
                MMapPath::Vsyscall => continue,
                _ => String::new(),
            };
            let (start, end) = map.address;
            space.map(pid, start..end, map.offset, &name, modules);
        }
        space
    }

    /// Notes that `range` shows the file from `offset` on.
    pub(super) fn map(
        &mut self,
        pid: u32,
        range: Range<u64>,
        offset: u64,
        name: &str,
        modules: &mut Modules,
    ) {
        let module = if name == "[vdso]" {
            modules.vdso()
        } else if name.starts_with('/') && !name.starts_with("//anon") {
            open(pid, &range, name).and_then(|file| modules.enter(file, name))
        } else {
            None
        };
        self.unmap(&range);
        let tables = module
            .and_then(|id| modules.get(id))
            .and_then(|module| module.unwind_tables(range.clone(), offset));
        let has_tables = tables.is_some();
        if let Some(tables) = tables {
            self.unwinder.add_module(tables);
        }
        let mapping = Mapping {
            end: range.end,
            offset,
            module,
            has_tables,
        };
        self.mappings.insert(range.start, mapping);
    }

    fn unmap(&mut self, range: &Range<u64>) {
        let covered: Vec<_> = self
            .mappings
            .range(range.clone())
            .map(|(&start, _)| start)
            .collect();
        for start in covered {
            if let Some(mapping) = self.mappings.remove(&start)
                && mapping.has_tables
            {
                self.unwinder.remove_module(start);
            }
        }
    }

    /// The unwinder for its stacks.
    pub(super) fn unwinder(&self) -> &Unwinder {
        &self.unwinder
    }

    /// Whether anything is mapped at `address`.
    pub(super) fn knows(&self, address: u64) -> bool {
        self.mapping(address).is_some()
    }

    /// Whether callers of the code at `address` can be found by tables.
    pub(super) fn has_tables(&self, address: u64) -> bool {
        self.mapping(address)
            .is_some_and(|(_, mapping)| mapping.has_tables)
    }

    /// What the code at `address` of process `pid` is.
    pub(super) fn address(&self, pid: u32, address: u64) -> Address {
        match self.mapping(address) {
            Some((
                start,
                Mapping {
                    module: Some(module),
                    offset,
                    ..
                },
            )) => Address::File {
                module: *module,
                offset: address - start + offset,
            },
            Some(_) => Address::Jit { pid, address },
            None => Address::Unknown,
        }
    }

    fn mapping(&self, address: u64) -> Option<(u64, &Mapping)> {
        let (&start, mapping) = self.mappings.range(..=address).next_back()?;
        (address < mapping.end).then_some((start, mapping))
    }
}

/// The mapped file itself, even if it was deleted or lies in another mount namespace. What stands
/// under its name meanwhile may be anything.
fn open(pid: u32, range: &Range<u64>, name: &str) -> Option<File> {
    let mapped = format!("/proc/{pid}/map_files/{:x}-{:x}", range.start, range.end);
    File::open(mapped)
        .or_else(|_gone| open_by_name(&format!("/proc/{pid}/root{name}")))
        .or_else(|_gone| open_by_name(name))
        .ok()
}

fn open_by_name(name: &str) -> io::Result<File> {
    // Opening a FIFO waits for somebody who writes.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(name)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::ErrorKind::InvalidInput.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_this_process_is_in_a_file_with_tables() {
        let mut modules = Modules::default();
        let pid = std::process::id();
        let space = Space::read(pid, &mut modules);
        let own = an_address_of_this_process_is_in_a_file_with_tables as fn() as usize as u64;
        assert!(space.knows(own) && space.has_tables(own));
        let Address::File { module, .. } = space.address(pid, own) else {
            panic!("not in a file");
        };
        assert!(modules.get(module).unwrap().name.contains("hotlb"));
        assert!(matches!(space.address(pid, 1), Address::Unknown));
    }
}
