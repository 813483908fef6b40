//! The heap.

/// Gives freed memory back to the system as it is dropped: the first value of a block, and so the
/// last that goes.
#[derive(Debug)]
#[must_use]
pub struct GivesBack(());

impl GivesBack {
    /// For a block that needs much for a moment, however it ends.
    pub const fn at_the_end() -> Self {
        Self(())
    }
}

impl Drop for GivesBack {
    fn drop(&mut self) {
        give_back();
    }
}

/// For after work that needed far more for a moment than the agent does: glibc keeps the pages of
/// such a moment for ever (`malloc_trim(3)`).
#[expect(unsafe_code, reason = "no safe wrapper exists")]
fn give_back() {
    // SAFETY: no arguments that could be wrong; it may be called at any time from any thread.
    #[cfg(target_env = "gnu")]
    unsafe {
        let _was_any = libc::malloc_trim(0);
    }
}
