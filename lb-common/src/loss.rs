//! What a connection that ends was lost by, if it was lost.
//!
//! From the kernel's own counts alone, whatever the protocol: bytes that came after the last that
//! were sent are a request without an answer. Times are the kernel's ticks (4 ms at 250 Hz), so a
//! request within the tick of the answer before it counts as answered.

use crate::ConnectionCell;

/// A connection that a client did not get all from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Loss {
    /// Reset in the accept queue: no process ever took it.
    Queued,
    /// A request was received, and the connection ended without a byte of its answer.
    Unanswered,
    /// Reset while bytes of an answer were on their way.
    MidResponse,
    /// Reset between an answer and the next request, or before the first.
    Idle,
}

/// A connection at its end, as the kernel knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    /// The state before it was closed, as the kernel counts them.
    pub former: u32,
    /// The socket's error, a number of errno(3): who reset it.
    pub error: u32,
    /// A process has it open.
    pub held: bool,
    /// Segments with data from the client.
    pub received: u32,
    /// Segments with data to the client.
    pub sent: u32,
    /// When the last of `received` came, in ticks that wrap.
    pub last_received: u32,
    /// When the last of `sent` went, in the same ticks.
    pub last_sent: u32,
    /// Bytes were sent, or were to be, that the client has not acknowledged.
    pub unacknowledged: bool,
    /// The client has closed its direction.
    pub client_closed: bool,
    /// What came, the close of the client's direction counted as a byte.
    pub bytes_received: u64,
    /// What was acknowledged by the client, the close of the server's direction counted as a byte.
    pub bytes_acknowledged: u64,
}

/// States of a TCP connection (`include/net/tcp_states.h`).
mod state {
    pub(super) const ESTABLISHED: u32 = 1;
    pub(super) const SYN_RECV: u32 = 3;
    pub(super) const FIN_WAIT1: u32 = 4;
    pub(super) const FIN_WAIT2: u32 = 5;
    pub(super) const LAST_ACK: u32 = 9;
    pub(super) const CLOSING: u32 = 11;
}

/// Errors that the client's side, or the network, leaves on a socket: EPIPE, ECONNRESET,
/// ETIMEDOUT, EHOSTUNREACH. The server's own reset leaves none, `SOCK_DESTROY` ECONNABORTED.
const OF_THE_CLIENT: [u32; 4] = [32, 104, 110, 113];

impl Ending {
    /// Where the connection is counted, unless it ended in order.
    #[inline(always)]
    pub fn cell(&self) -> Option<ConnectionCell> {
        match self.loss() {
            Some(Loss::Queued) => Some(ConnectionCell::LostQueued),
            Some(Loss::Unanswered) => Some(ConnectionCell::LostUnanswered),
            Some(Loss::MidResponse) => Some(ConnectionCell::LostMidResponse),
            Some(Loss::Idle) => Some(ConnectionCell::LostIdle),
            None if self.waits() => Some(ConnectionCell::Abandoned),
            None => None,
        }
    }

    /// What was lost by the server's doing; a client that leaves loses nothing.
    #[inline(always)]
    pub fn loss(&self) -> Option<Loss> {
        match self.former {
            state::ESTABLISHED | state::SYN_RECV if self.was_left() => None,
            state::ESTABLISHED | state::SYN_RECV if !self.held => Some(Loss::Queued),
            state::ESTABLISHED | state::SYN_RECV if self.waits() => Some(Loss::Unanswered),
            state::ESTABLISHED | state::SYN_RECV if self.unacknowledged => Some(Loss::MidResponse),
            state::ESTABLISHED | state::SYN_RECV => Some(Loss::Idle),
            // The server closed first, in order.
            state::FIN_WAIT1 | state::FIN_WAIT2 | state::CLOSING if self.waits() => {
                Some(Loss::Unanswered)
            }
            _ => None,
        }
    }

    /// Bytes that the client sent. In sequence numbers, by which the kernel counts, the end of a
    /// direction is one more.
    #[inline(always)]
    pub fn received_bytes(&self) -> u64 {
        self.bytes_received
            .saturating_sub(u64::from(self.client_closed))
    }

    /// Bytes that the client has acknowledged.
    #[inline(always)]
    pub fn sent_bytes(&self) -> u64 {
        let closed = self.former == state::FIN_WAIT1
            || self.former == state::FIN_WAIT2
            || self.former == state::CLOSING
            || self.former == state::LAST_ACK;
        let closing = closed && !self.unacknowledged;
        self.bytes_acknowledged.saturating_sub(u64::from(closing))
    }

    /// A request came after the last byte of an answer.
    #[inline(always)]
    fn waits(&self) -> bool {
        let after = self.last_received.wrapping_sub(self.last_sent);
        self.received > 0 && (self.sent == 0 || (after > 0 && after < 1 << 31))
    }

    /// The client reset it, or is gone.
    #[inline(always)]
    fn was_left(&self) -> bool {
        let [pipe, reset, timeout, unreachable] = OF_THE_CLIENT;
        self.error == pipe
            || self.error == reset
            || self.error == timeout
            || self.error == unreachable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection with a request and its answer, kept open.
    const KEPT: Ending = Ending {
        former: state::ESTABLISHED,
        error: 0,
        held: true,
        received: 1,
        sent: 1,
        last_received: 100,
        last_sent: 101,
        unacknowledged: false,
        client_closed: false,
        bytes_received: 90,
        bytes_acknowledged: 200,
    };
    /// The same with one more request.
    const ASKED: Ending = Ending {
        received: 2,
        last_received: 105,
        ..KEPT
    };

    #[test]
    fn a_reset_in_the_queue_is_one_whatever_was_sent() {
        for received in [0, 1] {
            let queued = Ending {
                held: false,
                received,
                sent: 0,
                ..KEPT
            };
            assert_eq!(queued.loss(), Some(Loss::Queued));
        }
    }

    #[test]
    fn a_request_without_an_answer_is_lost_however_the_server_ends_it() {
        for former in [
            state::ESTABLISHED,
            state::FIN_WAIT1,
            state::FIN_WAIT2,
            state::CLOSING,
        ] {
            let ending = Ending { former, ..ASKED };
            assert_eq!(ending.loss(), Some(Loss::Unanswered), "{former}");
            let first = Ending {
                former,
                received: 1,
                sent: 0,
                ..KEPT
            };
            assert_eq!(first.loss(), Some(Loss::Unanswered), "{former}");
        }
    }

    #[test]
    fn an_answer_thrown_away_is_lost() {
        let ending = Ending {
            unacknowledged: true,
            ..KEPT
        };
        assert_eq!(ending.loss(), Some(Loss::MidResponse));
    }

    #[test]
    fn a_reset_between_requests_is_lost_and_an_end_in_order_is_not() {
        assert_eq!(KEPT.loss(), Some(Loss::Idle));
        let destroyed = Ending { error: 103, ..KEPT };
        assert_eq!(destroyed.loss(), Some(Loss::Idle));
        for former in [state::FIN_WAIT1, state::FIN_WAIT2, state::CLOSING, 8, 9] {
            let ending = Ending { former, ..KEPT };
            assert_eq!(ending.cell(), None, "{former}");
        }
    }

    #[test]
    fn a_client_that_leaves_before_its_answer_has_abandoned_it() {
        let reset = Ending {
            error: 104,
            ..ASKED
        };
        let closed = Ending { former: 9, ..ASKED };
        for ending in [reset, closed] {
            assert_eq!(ending.loss(), None);
            assert_eq!(ending.cell(), Some(ConnectionCell::Abandoned));
        }
        let idle = Ending { error: 104, ..KEPT };
        assert_eq!(idle.cell(), None);
    }

    #[test]
    fn the_end_of_a_direction_is_no_byte() {
        assert_eq!((KEPT.received_bytes(), KEPT.sent_bytes()), (90, 200));
        let closed = Ending {
            former: state::LAST_ACK,
            client_closed: true,
            bytes_received: 91,
            bytes_acknowledged: 201,
            ..KEPT
        };
        assert_eq!((closed.received_bytes(), closed.sent_bytes()), (90, 200));
        // The server's end has not come to the client.
        let cut = Ending {
            unacknowledged: true,
            bytes_acknowledged: 200,
            ..closed
        };
        assert_eq!((cut.received_bytes(), cut.sent_bytes()), (90, 200));
    }

    #[test]
    fn ticks_wrap() {
        let ending = Ending {
            last_received: 3,
            last_sent: u32::MAX - 3,
            ..KEPT
        };
        assert_eq!(ending.loss(), Some(Loss::Unanswered));
        let answered = Ending {
            last_received: u32::MAX - 3,
            last_sent: 3,
            ..KEPT
        };
        assert_eq!(answered.loss(), Some(Loss::Idle));
    }
}
