//! What the kernel programs counted, summed over the CPUs.

use lb_common::{ConnectionCell, EXIT_CELLS, Exit};
use serde::{Deserialize, Serialize};

/// A generation's connections since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Connections")
)]
pub struct ConnectionCounts {
    /// Handshakes that the kernel completed on its listeners.
    pub opened: u64,
    /// Connections that ended.
    pub closed: u64,
    /// Connections that were reset, by either side: a subset of `closed`.
    pub aborted: u64,
    /// Connections that the kernel moved to it, unaccepted, from a listener that closed.
    pub moved_in: u64,
    /// Connections that the kernel moved away from it in the same way.
    pub moved_out: u64,
    /// Connections that are open now, the unaccepted ones included.
    pub live: u64,
    /// Connections whose client did not get everything.
    #[serde(default)]
    pub lost: Losses,
    /// Bytes that clients sent, of connections that have ended.
    #[serde(default)]
    pub received_bytes: u64,
    /// Bytes that clients acknowledged, of connections that have ended.
    #[serde(default)]
    pub sent_bytes: u64,
}

/// Connections whose client did not get everything, by what happened to them; `abandoned` is no loss. All are 0 where
/// the kernel does not describe its types (BTF).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Losses {
    /// Reset in the accept queue.
    pub queued: u64,
    /// Ended with a request and not a byte of its response.
    pub unanswered: u64,
    /// Reset with bytes of a response on their way.
    pub mid_response: u64,
    /// Reset with no request to answer.
    pub idle: u64,
    /// Refused by a reset while the generation was active: no socket took the client's SYN.
    #[serde(default)]
    pub refused: u64,
    /// Closed by the client before its response: no loss.
    pub abandoned: u64,
}

impl Losses {
    /// All that the server's side is to blame for.
    pub const fn sum(&self) -> u64 {
        self.queued + self.unanswered + self.mid_response + self.idle + self.refused
    }

    /// Each by its name.
    pub const fn by_name(&self) -> [(&'static str, u64); 6] {
        [
            ("queued", self.queued),
            ("unanswered", self.unanswered),
            ("mid_response", self.mid_response),
            ("idle", self.idle),
            ("refused", self.refused),
            ("abandoned", self.abandoned),
        ]
    }

    /// What came to these since they were `former`.
    #[must_use]
    pub fn since(self, former: Self) -> Self {
        self.with(former, u64::saturating_sub)
    }

    /// These and `earlier`.
    #[must_use]
    pub fn plus(self, earlier: Self) -> Self {
        self.with(earlier, |count, earlier| count + earlier)
    }

    /// Each with its like.
    fn with(self, other: Self, combine: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            queued: combine(self.queued, other.queued),
            unanswered: combine(self.unanswered, other.unanswered),
            mid_response: combine(self.mid_response, other.mid_response),
            idle: combine(self.idle, other.idle),
            refused: combine(self.refused, other.refused),
            abandoned: combine(self.abandoned, other.abandoned),
        }
    }
}

impl ConnectionCounts {
    /// Of the cells of a generation, summed over the CPUs, and its live gauge.
    pub fn from_cells(cells: &[u64], live: u64) -> Self {
        let cell = |cell: ConnectionCell| cells.get(cell.index()).copied().unwrap_or_default();
        Self {
            opened: cell(ConnectionCell::Opened),
            closed: cell(ConnectionCell::Closed),
            aborted: cell(ConnectionCell::Aborted),
            moved_in: cell(ConnectionCell::MovedIn),
            moved_out: cell(ConnectionCell::MovedOut),
            // A gauge that is touched by several CPUs can be read in the middle of a pair.
            live: if live > i64::MAX as u64 { 0 } else { live },
            lost: Losses {
                queued: cell(ConnectionCell::LostQueued),
                unanswered: cell(ConnectionCell::LostUnanswered),
                mid_response: cell(ConnectionCell::LostMidResponse),
                idle: cell(ConnectionCell::LostIdle),
                refused: cell(ConnectionCell::Refused),
                abandoned: cell(ConnectionCell::Abandoned),
            },
            received_bytes: cell(ConnectionCell::BytesReceived),
            sent_bytes: cell(ConnectionCell::BytesSent),
        }
    }

    /// These counts and those of an earlier life of the same generation.
    #[must_use]
    pub fn plus(self, earlier: Self) -> Self {
        Self {
            opened: self.opened + earlier.opened,
            closed: self.closed + earlier.closed,
            aborted: self.aborted + earlier.aborted,
            moved_in: self.moved_in + earlier.moved_in,
            moved_out: self.moved_out + earlier.moved_out,
            live: self.live,
            lost: self.lost.plus(earlier.lost),
            received_bytes: self.received_bytes + earlier.received_bytes,
            sent_bytes: self.sent_bytes + earlier.sent_bytes,
        }
    }
}

/// How the calls of `steer` ended, over all groups of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SteeringCounts {
    cells: [u64; EXIT_CELLS],
}

impl SteeringCounts {
    /// Of the cells, summed over the CPUs and groups.
    pub fn new(cells: [u64; EXIT_CELLS]) -> Self {
        Self { cells }
    }

    /// How often the program ran.
    pub fn calls(&self) -> u64 {
        self.cell(Exit::CALLS)
    }

    /// How often it ended this way.
    pub fn exits(&self, exit: Exit, migrating: bool) -> u64 {
        self.cell(exit.cell(migrating))
    }

    fn cell(&self, index: usize) -> u64 {
        self.cells.get(index).copied().unwrap_or_default()
    }
}
