//! A memory-mapped eBPF array of 64-bit cells.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _},
    sync::atomic::{AtomicU64, Ordering},
};

use memmap2::{MmapOptions, MmapRaw};

/// The cells of an array map made with `BPF_F_MMAPABLE` (kernel 5.5+). A store is one aligned
/// 8-byte write that the kernel programs see whole, without a system call.
#[derive(Debug)]
pub struct MappedCells {
    map: MmapRaw,
    cells: usize,
}

impl MappedCells {
    /// Maps the first `cells` cells of the array behind `map`.
    ///
    /// # Errors
    ///
    /// What mmap(2) says: EINVAL or ENOTSUPP if the map is not mappable, EPERM if it is frozen.
    pub fn new(map: impl AsFd, cells: usize) -> io::Result<Self> {
        let map = MmapOptions::new()
            .len(cells * size_of::<u64>())
            .map_raw(map.as_fd().as_raw_fd())?;
        Ok(Self { map, cells })
    }

    /// How many cells there are.
    pub fn len(&self) -> usize {
        self.cells
    }

    /// Whether there is no cell.
    pub fn is_empty(&self) -> bool {
        self.cells == 0
    }

    /// The value of a cell; 0 for one that does not exist.
    pub fn load(&self, index: usize) -> u64 {
        self.cell(index)
            .map_or(0, |cell| cell.load(Ordering::Acquire))
    }

    /// Sets a cell.
    pub fn store(&self, index: usize, value: u64) {
        if let Some(cell) = self.cell(index) {
            cell.store(value, Ordering::Release);
        }
    }

    /// Replaces the value of a cell by what `next` makes of it, in one step. `next` is asked again when
    /// somebody else stored meanwhile.
    pub fn update(&self, index: usize, mut next: impl FnMut(u64) -> u64) {
        if let Some(cell) = self.cell(index) {
            // It cannot fail: `next` always has a value.
            let _former = cell.fetch_update(Ordering::AcqRel, Ordering::Acquire, |former| {
                Some(next(former))
            });
        }
    }

    /// Adds to a cell, modulo 2^64.
    pub fn add(&self, index: usize, amount: u64) {
        if let Some(cell) = self.cell(index) {
            cell.fetch_add(amount, Ordering::AcqRel);
        }
    }

    #[expect(unsafe_code, reason = "shared memory with the kernel")]
    #[expect(clippy::cast_ptr_alignment, reason = "a mapping starts at a page")]
    fn cell(&self, index: usize) -> Option<&AtomicU64> {
        if index >= self.cells {
            return None;
        }
        let base = self.map.as_mut_ptr().cast::<u64>();
        let cell = base.wrapping_add(index);
        // SAFETY: within the mapping, which lives as long as `self`; aligned, for a mapping
        // starts at a page; every access on this side is atomic, and the kernel's are single
        // instructions on aligned 8-byte cells.
        Some(unsafe { AtomicU64::from_ptr(cell) })
    }
}
