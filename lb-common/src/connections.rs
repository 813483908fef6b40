//! What `track` counts for each generation.

/// One count of a generation's row in the per-CPU connection table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum ConnectionCell {
    /// Handshakes completed on one of the generation's listeners.
    Opened = 0,
    /// Connections that ended, whoever ended them.
    Closed = 1,
    /// Those of `Closed` that went from established to closed at once: a reset by either side.
    Aborted = 2,
    /// Connections that came from a listener that closed, in its accept queue.
    MovedIn = 3,
    /// Connections that left by the same way.
    MovedOut = 4,
    /// Lost: [`crate::Loss::Queued`].
    LostQueued = 5,
    /// Lost: [`crate::Loss::Unanswered`].
    LostUnanswered = 6,
    /// Lost: [`crate::Loss::MidResponse`].
    LostMidResponse = 7,
    /// Lost: [`crate::Loss::Idle`].
    LostIdle = 8,
    /// Connections whose client left before the answer to its last request: its own doing.
    Abandoned = 9,
    /// Clients whose SYN was answered by a reset while the generation was the active one.
    Refused = 10,
    /// Bytes that clients sent, of connections that ended.
    BytesReceived = 11,
    /// Bytes that clients acknowledged, of connections that ended.
    BytesSent = 12,
}

/// Length of a generation's row.
pub const CONNECTION_CELLS: usize = 16;

impl ConnectionCell {
    /// The cell's index in the row.
    #[inline(always)]
    pub const fn index(self) -> usize {
        self as usize
    }
}
