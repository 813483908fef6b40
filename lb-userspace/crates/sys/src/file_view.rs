//! Files mapped to be read.

use std::{fs::File, io, ops::Deref, ops::Range, sync::Arc};

use memmap2::Mmap;

/// A part of a mapped file. Clones share the mapping.
///
/// If the file is cut short meanwhile, a read ends the process with SIGBUS: for processes whose end
/// is provided for.
#[derive(Clone, Debug)]
pub struct FileView {
    map: Arc<Mmap>,
    range: Range<usize>,
}

impl FileView {
    /// The whole file.
    #[expect(unsafe_code, reason = "a file mapped from outside")]
    pub fn whole(file: &File) -> io::Result<Self> {
        // SAFETY: private and read only. Others may write to the file: programs that are being
        // executed cannot be written to (ETXTBSY), and what is read is checked like any input.
        let map = unsafe { Mmap::map(file) }?;
        let range = 0..map.len();
        Ok(Self {
            map: Arc::new(map),
            range,
        })
    }

    /// A part of it; `None` if it is not that long.
    pub fn part(&self, offset: u64, length: u64) -> Option<Self> {
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(usize::try_from(length).ok()?)?;
        (end <= self.map.len()).then(|| Self {
            map: Arc::clone(&self.map),
            range: start..end,
        })
    }
}

impl Deref for FileView {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.map.get(self.range.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn parts_lie_within_the_file() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"hello").unwrap();
        let view = FileView::whole(&file).unwrap();
        assert_eq!(&*view.part(1, 3).unwrap(), b"ell");
        assert!(view.part(4, 2).is_none());
        assert!(view.part(u64::MAX, 2).is_none());
    }
}
