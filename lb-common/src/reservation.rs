//! The row of a service whose ports are reserved for its own processes.

/// Cell: the cookie of the network namespace in which they are; 0: nothing is reserved.
pub const NETWORK: usize = 0;
/// Cell: when the agent was last told of a bind that was refused, in nanoseconds of the monotonic clock.
pub const REPORTED: usize = 1;
/// Cells of the row.
pub const CELLS: usize = 2;

/// Of so many levels of the tree of cgroups a process may be in, counted from the root. One deeper down is refused.
pub const LEVELS: i32 = 16;
