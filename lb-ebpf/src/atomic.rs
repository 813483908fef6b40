//! Atomic addition on map cells.
//!
//! The BPF target has the instruction (kernel 5.12+), but Rust does not yet offer it there
//! through `core::sync::atomic`, which wants compare-and-swap too. This is the one use of a
//! compiler intrinsic.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

/// Adds `amount` (modulo 2^64) to a map cell and returns what was there.
///
/// # Safety
///
/// `cell` must point to an aligned cell of a map's value.
#[inline(always)]
pub unsafe fn fetch_add(cell: *mut u64, amount: u64) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(cell, amount) }
}
