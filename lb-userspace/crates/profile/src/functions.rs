//! Where functions without names begin.

use gimli::{BaseAddresses, EhFrame, EhFrameHdr, NativeEndian, UnwindSection as _};
use hotlb_values::profile::{Frame, FrameKind};
use object::{Object as _, ObjectSection as _};

use super::module::Module;

/// Bytes of the code that a program begins with.
const START: u64 = 64;

/// The functions of a module by its unwind tables, which stay when names are stripped.
pub(super) struct Functions<'a> {
    tables: Option<Tables<'a>>,
}

struct Tables<'a> {
    bases: BaseAddresses,
    index: gimli::ParsedEhFrameHdr<gimli::EndianSlice<'a, NativeEndian>>,
    frames: EhFrame<gimli::EndianSlice<'a, NativeEndian>>,
}

impl<'a> Functions<'a> {
    /// Those of `module`.
    pub(super) fn of(module: &'a Module) -> Self {
        Self {
            tables: Tables::read(module.bytes()),
        }
    }

    /// What to call the function at `offset` that has no name: the program's beginning, or by
    /// the address of its own beginning, so that all of its samples are one function.
    pub(super) fn nameless(&self, module: &Module, offset: u64) -> Frame {
        let entry = module.entry.unwrap_or(u64::MAX);
        let name = if (entry..entry.saturating_add(START)).contains(&offset) {
            "_start".to_owned()
        } else {
            let address = module.address_of(offset).unwrap_or(offset);
            let begin = self
                .tables
                .as_ref()
                .and_then(|tables| tables.begin(address));
            let file = module.name.rsplit('/').next().unwrap_or_default();
            format!("{file}+0x{:x}", begin.unwrap_or(address))
        };
        Frame {
            name,
            module: None,
            kind: FrameKind::User,
        }
    }
}

impl<'a> Tables<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let object = object::File::parse(bytes).ok()?;
        let section = |name: &str| {
            let section = object.section_by_name(name)?;
            Some((section.address(), section.data().ok()?))
        };
        let (frames_at, frames) = section(".eh_frame")?;
        let (index_at, index) = section(".eh_frame_hdr")?;
        let text_at = object
            .section_by_name(".text")
            .map_or(0, |text| text.address());
        let bases = BaseAddresses::default()
            .set_eh_frame(frames_at)
            .set_eh_frame_hdr(index_at)
            .set_text(text_at);
        let size = if object.is_64() { 8 } else { 4 };
        let index = EhFrameHdr::new(index, NativeEndian)
            .parse(&bases, size)
            .ok()?;
        Some(Self {
            bases,
            index,
            frames: EhFrame::new(frames, NativeEndian),
        })
    }

    /// Where the function around `address` begins.
    fn begin(&self, address: u64) -> Option<u64> {
        let table = self.index.table()?;
        let entry =
            table.fde_for_address(&self.frames, &self.bases, address, EhFrame::cie_from_offset);
        entry.ok().map(|entry| entry.initial_address())
    }
}
