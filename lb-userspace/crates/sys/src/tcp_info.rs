//! What the kernel knows of one TCP connection (`TCP_INFO`).

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _},
    time::Duration,
};

/// A moment of a connection; all of it is read at once, under the socket's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpInfo {
    /// Bytes the other side has sent.
    pub bytes_received: u64,
    /// Bytes of this side that the other has acknowledged.
    pub bytes_acknowledged: u64,
    /// Bytes this side has sent, those sent again included.
    pub bytes_sent: u64,
    /// Segments sent that have not been acknowledged.
    pub unacknowledged: u32,
    /// Bytes written that have not been sent.
    pub unsent: u32,
    /// Milliseconds since this side last sent data.
    pub since_sent: u32,
    /// Milliseconds since the other side's last data came.
    pub since_received: u32,
    /// Milliseconds since the other side last acknowledged anything, be it with data.
    pub since_acknowledged: u32,
    /// The shortest round trip so far, in microseconds.
    pub least_round_trip: u32,
    /// The smoothed round trip, in microseconds.
    pub round_trip: u32,
    /// Segments that were sent again, so far.
    pub retransmitted: u32,
}

/// The times since something happened are counted in the kernel's ticks, of 10 ms at most: what
/// took longer than that did not happen in the same one.
const TICK: Duration = Duration::from_millis(10);

/// Offsets in `struct tcp_info` (uapi/linux/tcp.h), which only ever grows at its end. libc has it
/// for some targets only, and in part.
mod at {
    pub(super) const UNACKED: usize = 24;
    pub(super) const LAST_DATA_SENT: usize = 44;
    pub(super) const LAST_DATA_RECV: usize = 52;
    pub(super) const LAST_ACK_RECV: usize = 56;
    pub(super) const RTT: usize = 68;
    pub(super) const TOTAL_RETRANS: usize = 100;
    pub(super) const BYTES_ACKED: usize = 120;
    pub(super) const BYTES_RECEIVED: usize = 128;
    pub(super) const NOTSENT_BYTES: usize = 144;
    pub(super) const MIN_RTT: usize = 148;
    pub(super) const BYTES_SENT: usize = 200;
    pub(super) const END: usize = 208;
}

impl TcpInfo {
    /// Asks the kernel.
    ///
    /// # Errors
    ///
    /// When it is no TCP socket, or the kernel is older than 4.19.
    pub fn of(socket: impl AsFd) -> io::Result<Self> {
        Self::parse(&read(&socket)?).ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))
    }

    /// From the bytes of the kernel's structure; `None` where a kernel older than 4.19 made it.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let u32_at = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let u64_at = |at: usize| Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        Some(Self {
            bytes_received: u64_at(at::BYTES_RECEIVED)?,
            bytes_acknowledged: u64_at(at::BYTES_ACKED)?,
            bytes_sent: u64_at(at::BYTES_SENT)?,
            unacknowledged: u32_at(at::UNACKED)?,
            unsent: u32_at(at::NOTSENT_BYTES)?,
            since_sent: u32_at(at::LAST_DATA_SENT)?,
            since_received: u32_at(at::LAST_DATA_RECV)?,
            since_acknowledged: u32_at(at::LAST_ACK_RECV)?,
            least_round_trip: u32_at(at::MIN_RTT)?,
            round_trip: u32_at(at::RTT)?,
            retransmitted: u32_at(at::TOTAL_RETRANS)?,
        })
    }

    /// Whether all this side wrote has arrived.
    pub const fn all_has_arrived(&self) -> bool {
        self.unacknowledged == 0 && self.unsent == 0
    }

    /// Whether all this side wrote has arrived, and the other side has spoken since: a request
    /// waits for its response. False when it cannot be told.
    pub fn request_waits(&self) -> bool {
        self.all_has_arrived() && (self.bytes_sent == 0 || self.since_received < self.since_sent)
    }

    /// Whether neither side has spoken for `time`, and none owes the other anything. False when
    /// it cannot be told: when a request and a response fell into one tick, and the request may
    /// have come last.
    pub fn rests_for(&self, time: Duration) -> bool {
        let silent = |since: u32| Duration::from_millis(since.into()) >= time;
        if !self.all_has_arrived() || !silent(self.since_received) {
            return false;
        }
        if self.bytes_sent == 0 {
            return self.bytes_received == 0;
        }
        let answered = self.since_sent < self.since_received
            || self.since_sent == self.since_received
                // Then the last that came was no request but an acknowledgement of the response.
                && (self.since_acknowledged < self.since_received
                    || Duration::from_micros(self.least_round_trip.into()) > TICK);
        silent(self.since_sent) && answered
    }
}

#[expect(unsafe_code, reason = "no crate here reads TCP_INFO")]
fn read(socket: &impl AsFd) -> io::Result<[u8; at::END]> {
    let mut bytes = [0_u8; at::END];
    let mut length = libc::socklen_t::try_from(bytes.len()).map_err(io::Error::other)?;
    // SAFETY: the buffer is as long as said, and both live until the call returns.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            bytes.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    if length as usize != bytes.len() {
        return Err(io::Error::from(io::ErrorKind::Unsupported));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    /// A connection that was answered a second ago.
    const ANSWERED: TcpInfo = TcpInfo {
        bytes_received: 100,
        bytes_acknowledged: 200,
        bytes_sent: 200,
        unacknowledged: 0,
        unsent: 0,
        since_sent: 1_000,
        since_received: 1_004,
        since_acknowledged: 1_000,
        least_round_trip: 7,
        round_trip: 9,
        retransmitted: 0,
    };

    #[test]
    fn rest_is_when_all_is_said_and_heard() {
        let rests = |info: TcpInfo| info.rests_for(Duration::from_millis(200));
        assert!(rests(ANSWERED));
        let with = |change: fn(&mut TcpInfo)| {
            let mut info = ANSWERED;
            change(&mut info);
            rests(info)
        };
        assert!(!with(|info| info.unacknowledged = 1));
        assert!(!with(|info| info.unsent = 1));
        assert!(!with(|info| info.since_received = 900), "it asked again");
        assert!(!with(|info| info.since_sent = 100), "just answered");
        assert!(!with(|info| info.bytes_sent = 0), "never answered");
        assert!(with(|info| (info.bytes_sent, info.bytes_received) = (0, 0)));
        // In one tick: only an acknowledgement that came later, or a long way, tells.
        assert!(!with(|info| (
            info.since_received,
            info.since_acknowledged
        ) = (1_000, 1_000)));
        assert!(with(|info| (
            info.since_received,
            info.since_acknowledged
        ) = (1_000, 960)));
        assert!(with(
            |info| (info.since_received, info.least_round_trip) = (1_000, 20_000)
        ));
    }

    #[test]
    fn a_request_waits_until_it_is_answered() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"request").unwrap();
        let mut buffer = [0; 8];
        assert_eq!(server.read(&mut buffer).unwrap(), 7);
        let info = TcpInfo::of(&server).unwrap();
        assert_eq!((info.bytes_received, info.bytes_sent), (7, 0));
        assert!(info.request_waits());
        server.write_all(b"answer").unwrap();
        assert_eq!(client.read(&mut buffer).unwrap(), 6);
        let info = TcpInfo::of(&server).unwrap();
        assert_eq!(info.bytes_sent, 6);
        assert!(!info.request_waits(), "{info:?}");
    }
}
