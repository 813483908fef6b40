//! The ways out of `steer`, each of them counted.

/// How one call of `steer` ended. The sum over all exits equals the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Exit {
    /// The active generation, at the slot the hash names.
    Active = 0,
    /// The candidate, because the client belongs to its share.
    Candidate = 1,
    /// The generation a ticket names.
    Ticket = 2,
    /// The wanted generation, but a neighbour of the slot the hash names: a listener is gone.
    Neighbour = 3,
    /// The other live generation: the wanted one has no listener left.
    OtherGeneration = 4,
    /// The parking listener: no generation can take the connection now.
    Parked = 5,
    /// Nothing was selected; the kernel's hash decides over all sockets of the group. An alarm.
    Unselected = 6,
}

/// Length of the per-CPU row that counts: calls, then each exit for new connections, then each
/// exit for connections that moved because their listener closed.
pub const EXIT_CELLS: usize = 16;

const KINDS: usize = 7;
const _: () = assert!(2 * KINDS < EXIT_CELLS);

impl Exit {
    /// All exits, in the order of their cells.
    pub const ALL: [Self; KINDS] = [
        Self::Active,
        Self::Candidate,
        Self::Ticket,
        Self::Neighbour,
        Self::OtherGeneration,
        Self::Parked,
        Self::Unselected,
    ];

    /// The cell that counts the calls.
    pub const CALLS: usize = 0;

    /// The cell that counts this exit; `migrating` for a connection whose listener closed.
    #[inline(always)]
    pub const fn cell(self, migrating: bool) -> usize {
        1 + self as usize + if migrating { KINDS } else { 0 }
    }

    /// The name in metrics and `status`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Candidate => "candidate",
            Self::Ticket => "ticket",
            Self::Neighbour => "neighbour",
            Self::OtherGeneration => "other_generation",
            Self::Parked => "parked",
            Self::Unselected => "unselected",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_exit_has_a_cell_of_its_own() {
        let mut seen = [false; EXIT_CELLS];
        seen[Exit::CALLS] = true;
        for migrating in [false, true] {
            for exit in Exit::ALL {
                let cell = exit.cell(migrating);
                assert!(!seen[cell], "{exit:?} shares cell {cell}");
                seen[cell] = true;
            }
        }
    }
}
