//! The cells of a service's steering table: one memory-mapped row of eight 64-bit cells.

/// Cells in the row; one cache line.
pub const CELLS: usize = 8;

/// The [`SteeringWord`](crate::SteeringWord).
pub const WORD: usize = 0;
/// How many tickets are out; with none, `steer` does not look at addresses for them.
pub const TICKETS: usize = 1;
/// The salt of [`client_hash`](crate::client_hash).
pub const SALT: usize = 2;
/// How many connections ever moved from a closing listener; with none, `track` looks nothing up.
pub const MOVES: usize = 3;
/// [`ABI_VERSION`](crate::ABI_VERSION) of the agent that made the maps.
pub const ABI: usize = 4;
/// How the choice falls between a generation's listeners, see [`Workers`](crate::Workers).
pub const WORKERS: usize = 5;
