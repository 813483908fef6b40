//! The heap.

/// Gives freed memory back to the system. For after work that needed far more for a moment than
/// the agent does: glibc keeps the pages of such a moment for ever (`malloc_trim(3)`).
#[expect(unsafe_code, reason = "no safe wrapper exists")]
pub fn give_back() {
    // SAFETY: no arguments that could be wrong; it may be called at any time from any thread.
    #[cfg(target_env = "gnu")]
    unsafe {
        let _was_any = libc::malloc_trim(0);
    }
}
