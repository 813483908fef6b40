//! Programs and libraries that sampled processes have mapped.

use std::{
    collections::HashMap,
    fs::{self, File, Metadata},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    ops::Range,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use framehop::ExplicitModuleSectionInfo;
use hotlb_sys::file_view::FileView;
use object::{
    Object as _, ObjectSection as _, ObjectSegment as _, SectionFlags, SegmentFlags, elf,
};
use procfs::process::{MMapPath, Process};

/// A module's place among all that were seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ModuleId(usize);

/// A file with code. It stays open, so that it can be read after its deletion and after the end of
/// its processes.
#[derive(Debug)]
pub(super) struct Module {
    /// The path its process knows it by.
    pub(super) name: String,
    file: File,
    view: FileView,
    /// Those with code: at its edges a page of the file belongs to two segments.
    segments: Vec<Segment>,
    /// The lowest address it states.
    base: u64,
    /// Where execution of a program begins, as an offset in the file.
    pub(super) entry: Option<u64>,
}

/// A part of the file that is loaded.
#[derive(Clone, Copy, Debug)]
struct Segment {
    offset: u64,
    length: u64,
    address: u64,
}

/// All modules that were seen.
#[derive(Debug, Default)]
pub(super) struct Modules {
    seen: HashMap<(u64, u64), Option<ModuleId>>,
    all: Vec<Module>,
    vdso: Vdso,
}

/// The code the kernel maps into every process.
#[derive(Clone, Copy, Debug, Default)]
enum Vdso {
    /// Nobody asked yet.
    #[default]
    Unread,
    /// As far as it could be read.
    Read(Option<ModuleId>),
}

impl Modules {
    /// The module in `file`; `None` if it is no program or library.
    pub(super) fn enter(&mut self, file: File, name: &str) -> Option<ModuleId> {
        let meta = file.metadata().ok()?;
        let key = (meta.dev(), meta.ino());
        if let Some(known) = self.seen.get(&key) {
            return *known;
        }
        let id = self.add(file, name);
        self.seen.insert(key, id);
        id
    }

    /// The code the kernel maps into every process. It is the same in all, so that this process's
    /// own is read.
    pub(super) fn vdso(&mut self) -> Option<ModuleId> {
        if let Vdso::Read(known) = self.vdso {
            return known;
        }
        let copied = copy_of_vdso().ok();
        let id = copied.and_then(|file| self.add(file, "[vdso]"));
        self.vdso = Vdso::Read(id);
        id
    }

    pub(super) fn get(&self, id: ModuleId) -> Option<&Module> {
        self.all.get(id.0)
    }

    fn add(&mut self, file: File, name: &str) -> Option<ModuleId> {
        let module = Module::read(file, name)?;
        self.all.push(module);
        Some(ModuleId(self.all.len() - 1))
    }
}

impl Module {
    fn read(file: File, name: &str) -> Option<Self> {
        let view = FileView::whole(&file).ok()?;
        let object = object::File::parse(&*view).ok()?;
        let base = object.segments().map(|s| s.address() & !0xfff).min()?;
        let segments: Vec<_> = object
            .segments()
            .filter(|segment| {
                matches!(segment.flags(), SegmentFlags::Elf { p_flags } if p_flags & elf::PF_X != 0)
            })
            .map(|segment| {
                let (offset, length) = segment.file_range();
                Segment {
                    offset,
                    length,
                    address: segment.address(),
                }
            })
            .collect();
        let entry = object.entry();
        let mut module = Self {
            name: name.to_owned(),
            file,
            view: view.clone(),
            segments,
            base,
            entry: None,
        };
        module.entry = module.offset_of(entry).filter(|_| entry != 0);
        Some(module)
    }

    /// A path by which this process can open it.
    pub(super) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }

    /// Whether files that it names by itself, with the rest of its symbols, may be opened. Who
    /// reads is root, and a name can lead to a FIFO, to a device, or to what its owner must not
    /// read: root's alone may, in a directory of root's.
    pub(super) fn may_name_files(&self) -> bool {
        let links = [".gnu_debuglink", ".gnu_debugaltlink", ".debug_sup"];
        let object = object::File::parse(&*self.view).ok();
        let names_some = object.is_some_and(|object| {
            let mut links = links.iter();
            links.any(|link| object.section_by_name(link).is_some())
        });
        !names_some || self.is_roots()
    }

    fn is_roots(&self) -> bool {
        let kept = |meta: io::Result<Metadata>| {
            meta.is_ok_and(|meta| meta.uid() == 0 && meta.mode() & 0o022 == 0)
        };
        let place = fs::read_link(self.path()).ok();
        let directory = place.as_deref().and_then(Path::parent);
        kept(self.file.metadata()) && directory.is_some_and(|dir| kept(fs::metadata(dir)))
    }

    /// The bytes of the file.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.view
    }

    /// The address, as stated in the file, of what stands at `offset`.
    pub(super) fn address_of(&self, offset: u64) -> Option<u64> {
        let segment = self.segments.iter().find(|segment| {
            // Mappings begin at pages, and segments within them.
            (segment.offset & !0xfff..segment.offset + segment.length).contains(&offset)
        })?;
        Some(
            segment
                .address
                .wrapping_add(offset)
                .wrapping_sub(segment.offset),
        )
    }

    /// Where in the file stands what has this address.
    pub(super) fn offset_of(&self, address: u64) -> Option<u64> {
        let segment = self.segments.iter().find(|segment| {
            (segment.address..segment.address + segment.length).contains(&address)
        })?;
        Some(address - segment.address + segment.offset)
    }

    /// What the unwinder needs to know, with the part of the file at `offset` mapped at `range`;
    /// `None` if it has no tables.
    pub(super) fn unwind_tables(
        &self,
        range: Range<u64>,
        offset: u64,
    ) -> Option<framehop::Module<FileView>> {
        let object = object::File::parse(self.bytes()).ok()?;
        let stated = self.address_of(offset)?;
        let svma = |name: &str| {
            let section = object.section_by_name(name)?;
            Some(section.address()..section.address() + section.size())
        };
        let data = |name: &str| {
            let section = object.section_by_name(name)?;
            let compressed = matches!(section.flags(), SectionFlags::Elf { sh_flags }
                if sh_flags & u64::from(elf::SHF_COMPRESSED) != 0);
            let (offset, length) = section.file_range().filter(|_| !compressed)?;
            self.view
                .part(offset, length)
                .filter(|part| !part.is_empty())
        };
        let sections = ExplicitModuleSectionInfo {
            base_svma: self.base,
            text_svma: svma(".text"),
            text: None,
            got_svma: svma(".got"),
            eh_frame_svma: svma(".eh_frame"),
            eh_frame: data(".eh_frame"),
            eh_frame_hdr_svma: svma(".eh_frame_hdr"),
            eh_frame_hdr: data(".eh_frame_hdr"),
            debug_frame: data(".debug_frame"),
            // What follows is of other systems' formats.
            stubs_svma: None,
            stub_helper_svma: None,
            unwind_info: None,
            text_segment_svma: None,
            text_segment: None,
        };
        let has_tables = sections.eh_frame.is_some() || sections.debug_frame.is_some();
        let begin = range.start.wrapping_sub(stated).wrapping_add(self.base);
        has_tables.then(|| framehop::Module::new(self.name.clone(), range, begin, sections))
    }
}

fn copy_of_vdso() -> io::Result<File> {
    let maps = Process::myself().and_then(|own| own.maps());
    let maps = maps.map_err(io::Error::other)?;
    let vdso = maps.iter().find(|map| map.pathname == MMapPath::Vdso);
    let (start, end) = vdso.ok_or(io::ErrorKind::NotFound)?.address;
    let mut memory = File::open("/proc/self/mem")?;
    memory.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    memory.take(end - start).read_to_end(&mut bytes)?;
    let copy = rustix::fs::memfd_create("vdso", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut copy = File::from(copy);
    copy.write_all(&bytes)?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_has_tables_and_an_entry() {
        let file = File::open("/proc/self/exe").unwrap();
        let mut modules = Modules::default();
        let id = modules.enter(file, "self").unwrap();
        let again = modules.enter(File::open("/proc/self/exe").unwrap(), "self");
        assert_eq!(again, Some(id));
        let module = modules.get(id).unwrap();
        let entry = module.entry.unwrap();
        let address = module.address_of(entry).unwrap();
        assert_eq!(module.offset_of(address), Some(entry));
        let range = 0x1000_0000..0x2000_0000;
        assert!(module.unwind_tables(range, entry & !0xfff).is_some());
    }

    #[test]
    fn the_kernels_own_module_is_found() {
        let mut modules = Modules::default();
        let id = modules.vdso().unwrap();
        assert_eq!(modules.get(id).unwrap().name, "[vdso]");
    }

    #[test]
    fn a_text_is_no_module() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"#!/bin/sh\n").unwrap();
        assert_eq!(Modules::default().enter(file, "script"), None);
    }
}
